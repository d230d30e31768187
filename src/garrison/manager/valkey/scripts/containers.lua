-- Containers as such, their names, and what keeps them alive.

--- open: always fully
-- Format, id and first number of a new store; the format and the id that it has. No number is used
-- again after the server has lost all, so that nothing is taken for what it was before.
local meta = P .. 'meta'
if call('EXISTS', meta) == 0 then
  call('HSET', meta, 'format', ARGV[4], 'uuid', ARGV[5], 'next', ARGV[6], 'fence', ARGV[6])
end
local found = call('HMGET', meta, 'format', 'uuid')
return { found[1] or '', found[2] or '' }

--- create: writes fully
-- Kind, limit, typecode, lease.
local number = new_container(ARGV[4], ARGV[5], ARGV[6])
call('HINCRBY', P .. 'h:' .. number, 'R', 1)
call('HINCRBY', P .. 'or:' .. OWNER, number, 1)
renew(ARGV[7])
return number

--- find_name: reads names
return call('HGET', P .. 'names', ARGV[4])

--- named: writes fully
-- Kind, limit, typecode, name.
local names, name = P .. 'names', ARGV[7]
local known = call('HGET', names, name)
if known then
  local kind, number = string.match(known, '^(%d+) (%d+)$')
  if not kind then error('a name is damaged') end
  if kind ~= ARGV[4] then fail('WRONGKIND ' .. kind) end
  return { number, 0 }
end
local number = new_container(ARGV[4], ARGV[5], ARGV[6])
call('HSET', P .. 'h:' .. number, 'n', name)
hset(names, name, ARGV[4] .. ' ' .. number)
changed.names = false
return { number, 1 }

--- names: reads names fully
return call('HGETALL', P .. 'names')

--- remove_name: writes fully
local names, name = P .. 'names', ARGV[4]
local known = call('HGET', names, name)
if not known then return 0 end
local number = string.match(known, ' (%d+)$')
hdel(names, name)
changed.names = false
hdel(P .. 'h:' .. number, 'n')
doubt(number)
return 1

--- metadata: reads
local number = ARGV[4]
local head = head_of(number)
local more = call('HMGET', P .. 'h:' .. number, 'l', 't', 'u', 'r', 'R')
local references = whole(more[4], 0) + whole(more[5], 0)
local length = length_of(number, head)
return { head.kind, length, references, head.limit, whole(more[3], 0), more[2] or '' }

--- has_links: reads
head_of(ARGV[4])
return (call('HGET', P .. 'h:' .. ARGV[4], 'L') or '0') ~= '0' and 1 or 0

--- length: reads
local head = head_of(ARGV[4])
return length_of(ARGV[4], head)

--- clear: writes fully
local head = head_of(ARGV[4])
empty(ARGV[4], head)
touch(ARGV[4])

--- snapshot: reads all fully
-- A large container without nested ones is read in parts instead.
local number = ARGV[4]
local head = head_of(number)
if length_of(number, head) > WHOLE and (call('HGET', P .. 'h:' .. number, 'L') or '0') == '0' then
  fail('LARGE ' .. head.kind .. ' ' .. head.limit)
end
return copy(number, {}, {})

--- scan: reads
-- First place, number of entries, whether values are wanted: the change count, the length, and the
-- items of a sequence; or nothing, keys, originals if any key has one, and values if there are any.
local number, from, count = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local head = head_of(number)
local length = length_of(number, head)
if head.form == 'items' then
  return { tostring(head.version), length, call('LRANGE', P .. 'q:' .. number, from, from + count - 1) }
end
local keys, originals, values = entries(number, head, from, from + count - 1, ARGV[7] == '1')
return { tostring(head.version), length, false, keys, originals, values }

--- change_count: reads
return head_of(ARGV[4]).version

--- wait: always fully
-- The count that was seen, the list to wake: whether there is another count already.
local number = ARGV[4]
if number == '0' then
  local open = call('GET', P .. 'tx')
  if not open or string.match(open, '^%d+') ~= ARGV[5] then return 1 end
else
  local hidden = beside_transaction and call('SISMEMBER', P .. 'txd', number) == 1
  if head_of(number).version ~= tonumber(ARGV[5]) and not hidden then return 1 end
  call('HSET', P .. 'h:' .. number, 'w', 1)
end
call('SADD', P .. 'w:' .. number, ARGV[6])
return 0

--- stop_waiting: always fully
call('SREM', P .. 'w:' .. ARGV[4], ARGV[5])
call('UNLINK', ARGV[5])

--- acquire_ref: always fully
local number = ARGV[4]
head_of(number)
call('HINCRBY', P .. 'h:' .. number, 'R', 1)
call('HINCRBY', P .. 'or:' .. OWNER, number, 1)
renew(ARGV[5])

--- release_refs: always fully
-- Owner, containers: one reference to each of them.
for at = 5, #ARGV do drop_refs(ARGV[4], ARGV[at], 1) end

--- resume: always fully
-- Lease, containers: the references of an owner that was given up, as far as they are still there.
call('UNLINK', P .. 'or:' .. OWNER)
renew(ARGV[4])
for at = 5, #ARGV do
  local key = P .. 'h:' .. ARGV[at]
  if call('HEXISTS', key, 'k') == 1 then
    call('HINCRBY', key, 'R', 1)
    call('HINCRBY', P .. 'or:' .. OWNER, ARGV[at], 1)
  end
end

--- renew: always fully
-- Lease, fence of the open transaction or nothing: whether the owner is still known, and whether the
-- transaction is still open.
local known = call('ZSCORE', P .. 'own', OWNER) and 1 or 0
renew(ARGV[4])
local open, is_open = call('GET', P .. 'tx'), 0
for at = 5, #ARGV do
  if open and string.match(open, '^%d+') == ARGV[at] then
    call('SET', P .. 'tx', ARGV[at] .. ' ' .. OWNER .. ' ' .. (now() + ARGV[4]))
    beside_transaction, is_open = true, 1
  end
end
reap_expired()
return { known, is_open }

--- leave: always fully
-- The end of an owner: what it has is given back now, or by whoever comes next.
call('ZADD', P .. 'own', 0, OWNER)
local open = call('GET', P .. 'tx')
if open and string.match(open, '^%d+ (%d+)') == OWNER then
  roll_back()
  beside_transaction = false
end
reap_expired()

--- release_claims: writes fully
-- For tests: give back what an owner has claimed.
local _, claims = unpack(call('HSCAN', P .. 'cl:' .. OWNER, 0, 'COUNT', CHUNK))
for i = 1, #claims, 2 do
  local number, ticket = string.match(claims[i], '^(%d+):(%d+)$')
  local value = unclaim(number, ticket)
  push(P .. 'q:' .. number, true, { value })
  touch(number)
end

--- settle: always fully
-- A request: its answer if it was carried out; else it never will be.
local slot, number = string.match(ARGV[4], '^(%d+):(%d+)$')
local replies = P .. 'rep:' .. OWNER
local last = call('HGET', replies, slot)
if last and string.match(last, '^%d+') == number then
  local packed = sub(last, #number + 2)
  return { 1, packed ~= '' and cmsgpack.unpack(packed) }
end
call('HSET', replies, slot, number .. ' ')
return { 0 }

--- collect: always fully
-- For how long it must have been garbage, in ms; nothing: as long as usual. Whether there is more.
return collect(CHUNK, tonumber(ARGV[4]))

--- statistics: reads names fully
return { call('HLEN', P .. 'names'), call('ZCARD', P .. 'own'), call('ZCARD', P .. 'gc') }
