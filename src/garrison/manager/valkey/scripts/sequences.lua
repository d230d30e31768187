-- Lists, deques, values, arrays, and queues. Arguments: container, index or bounds, values.

--- list_get: reads
local value = call('LINDEX', P .. 'q:' .. ARGV[4], ARGV[5])
if not value then fail('INDEX get ' .. head_of(ARGV[4], 'items').kind) end
return value

--- list_set: writes
local number, index, value = ARGV[4], tonumber(ARGV[5]), ARGV[6]
local head = head_of(number, 'items')
local items = P .. 'q:' .. number
local old = call('LINDEX', items, index)
if not old then fail('INDEX set ' .. head.kind) end
if not is_simple(value) then check_value(value) end
local stored = exchange(number, old, value)
if stored then
  if index < 0 then index = call('LLEN', items) + index end
  lset(items, index, stored)
end
touch(number)

--- list_extend: writes
local number, left = ARGV[4], ARGV[5] == '1'
local head = head_of(number, 'items')
if head.shut then fail('SHUT') end
if head.kind == DEQUE and head.limit >= 0 then no_links_in(number) end
local items = P .. 'q:' .. number
for at = 6, #ARGV do
  if not is_simple(ARGV[at]) then check_value(ARGV[at]) end
end
local values, links = {}, 0
for at = 6, #ARGV do
  local stored, is_link = store(ARGV[at])
  values[at - 5] = stored
  if is_link then links = links + 1 end
end
if #values > 0 then push(items, left, values) end
count_links(number, links)
if head.kind == QUEUE or head.kind == JOINABLE_QUEUE then
  hincr(P .. 'h:' .. number, 'u', #values)
end
trim(number, head, not left)
touch(number)

--- list_insert: writes fully
local number, index, value = ARGV[4], tonumber(ARGV[5]), ARGV[6]
local head = head_of(number, 'items')
local items = P .. 'q:' .. number
local length = call('LLEN', items)
if head.kind == DEQUE and head.limit >= 0 and length >= head.limit then fail('INDEX full') end
check_value(value)
if index < 0 then index = math.max(index + length, 0) else index = math.min(index, length) end
local stored, is_link = store(value)
splice(items, index, 0, { stored })
if is_link then count_links(number, 1) end
touch(number)

--- list_delete: writes
take_item(ARGV[4], tonumber(ARGV[5]), 'set')

--- list_pop: writes
return take_item(ARGV[4], tonumber(ARGV[5]), 'pop')

--- list_slice: reads
head_of(ARGV[4], 'items')
local start, stop = tonumber(ARGV[5]), tonumber(ARGV[6])
local length = call('LLEN', P .. 'q:' .. ARGV[4])
if start < 0 then start = math.max(start + length, 0) end
if stop < 0 then stop = stop + length end
if stop <= start then return {} end
return call('LRANGE', P .. 'q:' .. ARGV[4], start, stop - 1)

--- list_replace: writes fully
local number = ARGV[4]
local head = head_of(number, 'items')
local items = P .. 'q:' .. number
local length = call('LLEN', items)
local start = math.min(tonumber(ARGV[5]), length)
local stop = math.max(math.min(tonumber(ARGV[6]), length), start)
for at = 7, #ARGV do
  if not is_simple(ARGV[at]) then check_value(ARGV[at]) end
end
local olds = stop > start and call('LRANGE', items, start, stop - 1) or {}
-- A child that is put back into the sequence, as sorting does, stays its own.
local own = {}
for i, old in ipairs(olds) do
  local child, _, owned = link_of(old)
  if owned then own[child] = i end
end
local values, links = {}, 0
for at = 7, #ARGV do
  local value = ARGV[at]
  local target, _, owned = link_of(value)
  local place = target and not owned and own[target]
  local is_link = false
  if place then
    values[at - 6], own[target], olds[place] = olds[place], nil, ''
  else
    values[at - 6], is_link = store(value)
  end
  if is_link then links = links + 1 end
end
splice(items, start, stop - start, values)
for _, old in ipairs(olds) do
  if old ~= '' and release(old) then links = links - 1 end
end
count_links(number, links)
trim(number, head, true)
touch(number)

--- list_add: writes
local number, index = ARGV[4], tonumber(ARGV[5])
local head = head_of(number, 'items')
local items = P .. 'q:' .. number
local old = call('LINDEX', items, index)
if not old then fail('INDEX get ' .. head.kind) end
local total = sum(old, ARGV[6])
if index < 0 then index = call('LLEN', items) + index end
lset(items, index, total)
touch(number)
return total

--- list_compare_and_set: writes
local number, index, value = ARGV[4], tonumber(ARGV[5]), ARGV[7]
local head = head_of(number, 'items')
local items = P .. 'q:' .. number
local old = call('LINDEX', items, index)
if not old then fail('INDEX get ' .. head.kind) end
if old ~= ARGV[6] then return 0 end
check_value(value)
local stored = exchange(number, old, value)
if stored then
  if index < 0 then index = call('LLEN', items) + index end
  lset(items, index, stored)
end
touch(number)
return 1

--- claim_first: writes fully
-- The lease comes last.
local number = ARGV[4]
local head = head_of(number, 'items')
reap_expired()
local items = P .. 'q:' .. number
if call('LLEN', items) == 0 then fail(head.shut and 'SHUT' or 'INDEX pop ' .. head.kind) end
local value = pull(items, true)
local ticket = next_number('next')
hset(P .. 'c:' .. number, ticket, OWNER .. ' ' .. value)
hset(P .. 'cl:' .. OWNER, number .. ':' .. ticket, 1)
renew(ARGV[5])
touch(number)
return { ticket, value }

--- ack_claim: writes fully
local number = ARGV[4]
local head = head_of(number, 'items')
local value = unclaim(number, ARGV[5])
if not value then return 0 end
if whole(call('HGET', P .. 'h:' .. number, 'u'), 0) > 0 then
  hincr(P .. 'h:' .. number, 'u', -1)
end
if release(value) then count_links(number, -1) end
touch(number)
return 1

--- return_claim: writes fully
local number = ARGV[4]
local head = head_of(number, 'items')
local value = unclaim(number, ARGV[5])
if not value then return 0 end
push(P .. 'q:' .. number, true, { value })
touch(number)
return 1

--- shut_down_queue: writes fully
local number = ARGV[4]
local head = head_of(number, 'items')
if head.kind ~= QUEUE and head.kind ~= JOINABLE_QUEUE then fail('WRONGKIND ' .. head.kind) end
hset(P .. 'h:' .. number, 'x', 1)
if ARGV[5] == '1' then
  local left = whole(call('HGET', P .. 'h:' .. number, 'u'), 0) - length_of(number, head)
  hset(P .. 'h:' .. number, 'u', math.max(left, 0))
  empty(number, head)
end
touch(number)

--- counter_add: writes
local number, delta, floor = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local head = head_of(number, 'items')
local count = whole(call('HGET', P .. 'h:' .. number, 'u'), 0) + delta
if floor and count < floor then fail('FLOOR') end
hset(P .. 'h:' .. number, 'u', count)
touch(number)
return count
