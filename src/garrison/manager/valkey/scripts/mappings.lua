-- Dicts, sets, namespaces and counters. Arguments: container, canonical key, original key, values.

--- dict_get: reads
local value = call('HGET', P .. 'i:' .. ARGV[4], ARGV[5])
if not value then head_of(ARGV[4], 'pairs') end
return value

--- dict_contains: reads
if call('ZSCORE', P .. 'o:' .. ARGV[4], ARGV[5]) then return 1 end
head_of(ARGV[4], 'mapping')
return 0

--- dict_set: writes
local number, canonical, value = ARGV[4], ARGV[5], ARGV[7]
local items = P .. 'i:' .. number
local old = call('HGET', items, canonical)
if not old then head_of(number, 'pairs') end
if not is_simple(value) then check_value(value) end
if old then
  local stored = exchange(number, old, value)
  if stored then hset(items, canonical, stored) end
else
  local stored, is_link = store(value)
  insert(number, canonical, ARGV[6], stored)
  if is_link then count_links(number, 1) end
end
touch(number)

--- dict_update: writes
-- So many keys and values, and then the originals of these keys if any has one.
local number, count = ARGV[4], tonumber(ARGV[5])
head_of(number, 'pairs')
for at = 6 + count, 5 + 2 * count do
  if not is_simple(ARGV[at]) then check_value(ARGV[at]) end
end
set_pairs(number, count)
touch(number)

--- dict_setdefault: writes
local number, canonical, value = ARGV[4], ARGV[5], ARGV[7]
local head = head_of(number, 'pairs')
local old = call('HGET', P .. 'i:' .. number, canonical)
if old then return old end
check_value(value)
local stored, is_link = store(value)
insert(number, canonical, ARGV[6], stored)
if is_link then count_links(number, 1) end
touch(number)
return stored

--- dict_delete: writes
local number = ARGV[4]
local head = head_of(number, 'mapping')
if not take_key(number, ARGV[5], head) then fail('MISSING') end

--- set_discard: writes
local number = ARGV[4]
local head = head_of(number, 'mapping')
return take_key(number, ARGV[5], head) and 1 or 0

--- dict_pop: writes
local number = ARGV[4]
local head = head_of(number, 'pairs')
local plain = take_key(number, ARGV[5], head, true)
if not plain then fail('MISSING') end
return plain

--- dict_popitem: writes
local number = ARGV[4]
local head = head_of(number, 'mapping')
local place = ARGV[5] == '1' and -1 or 0
local canonical = call('ZRANGE', P .. 'o:' .. number, place, place)[1]
if not canonical then fail('EMPTY ' .. head.kind) end
local original = call('HGET', P .. 'k:' .. number, canonical) or ''
return { canonical, original, take_key(number, canonical, head, true) }

--- dict_add: writes
local number, canonical, delta, initial = ARGV[4], ARGV[5], ARGV[7], ARGV[8]
local items = P .. 'i:' .. number
local old = call('HGET', items, canonical)
if not old then
  head_of(number, 'pairs')
  if initial == '' then fail('MISSING') end
end
local total = sum(old or initial, delta)
if old then hset(items, canonical, total) else insert(number, canonical, ARGV[6], total) end
touch(number)
return total

--- dict_encoded_many: reads
local number = ARGV[4]
head_of(number, 'pairs')
local found = {}
for from = 5, #ARGV, CHUNK do
  local last = math.min(from + CHUNK - 1, #ARGV)
  local values = call('HMGET', P .. 'i:' .. number, unpack(ARGV, from, last))
  for i = 1, last - from + 1 do found[from - 5 + i] = values[i] end
end
return found

--- dict_compare_and_set: writes
-- What is there, and what comes there: nothing, or a 1 and the value behind it.
local number, canonical, expected, value = ARGV[4], ARGV[5], ARGV[7], ARGV[8]
local head = head_of(number, 'pairs')
local items = P .. 'i:' .. number
local old = call('HGET', items, canonical)
if (old and '1' .. old or '') ~= expected then return 0 end
if value == '' then
  if old then take_key(number, canonical, head) end
  return 1
end
value = sub(value, 2)
check_value(value)
if old then
  local stored = exchange(number, old, value)
  if stored then hset(items, canonical, stored) end
else
  local stored, is_link = store(value)
  insert(number, canonical, ARGV[6], stored)
  if is_link then count_links(number, 1) end
end
touch(number)
return 1

--- set_add: writes
local number = ARGV[4]
local head = head_of(number, 'members')
if call('ZSCORE', P .. 'o:' .. number, ARGV[5]) then return 0 end
insert(number, ARGV[5], ARGV[6])
touch(number)
return 1
