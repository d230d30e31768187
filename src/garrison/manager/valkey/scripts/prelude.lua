-- What stands in front of every operation: the layout of a store, writes that can be undone, heads of
-- containers, and links between them.
--
-- KEYS[1]   the prefix of all keys, P. The keys below it lie in the same slot, by its hash tag.
-- ARGV[1]   the fence of the caller's transaction, or nothing
-- ARGV[2]   the caller's owner id
-- ARGV[3]   slot:number of a request that writes, or nothing
-- ARGV[4..] the arguments of the operation; the first is mostly a container's number
--
-- P meta      hash: format, uuid, next (number), fence
-- P names     hash: name -> "kind number"
-- P h:N       hash, the head of container N: k kind, s next place in the order, v change count, l limit,
--             t typecode, u unfinished items, x shut down, o owned by another container, n its name,
--             r references from containers, R references of owners, L links among its values,
--             w someone waits for a change, d the kind of a container that is being freed
-- P o:N i:N k:N   a mapping: zset of canonical keys in their order; hash of values; hash of the
--             originals of keys that their canonical form does not tell
-- P q:N c:N   a sequence: list of values; hash of a queue's claims: ticket -> "owner value"
-- P w:N       set: the lists on which clients wait for a change of N; N is 0 for the end of a transaction
-- P own       zset: owners by the end of their lease, in ms of the server's clock
-- P or:O cl:O rep:O   hashes of owner O: its references, its claims, the last reply of each slot
-- P gc        zset: containers that may be garbage, by the time at which that was first so
-- P tx        "fence owner end-of-lease" of the open transaction; txlog: list of what undoes it;
--             txd: set of the containers that it has changed; txt: set of keys that it has put away
local P, FENCE, OWNER, REQUEST = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local call, byte, sub = redis.call, string.byte, string.sub
local DICT, LIST, SET, DEQUE, NAMESPACE, COUNTER = 1, 2, 3, 4, 5, 10
local QUEUE, JOINABLE_QUEUE = 8, 9
local CHILD, REF, TREE = 16, 17, 18
local CHUNK = 1000 -- as many arguments as one call takes without harm
local WAKE_S = 60
local GRACE_MS = 60000

local log -- what undoes this script's writes; nil: nothing is noted
local changed = {} -- the containers that this script has changed
local any_garbage = false
local in_transaction, beside_transaction = false, false

-- An expected failure, before anything was written.
local function fail(what)
  error({ err = 'GARRISON ' .. what })
end

local function now()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Call a command with any number of arguments, some at a time.
local function in_chunks(command, key, list, each)
  for from = 1, #list, CHUNK do
    local reply = call(command, key, unpack(list, from, math.min(from + CHUNK - 1, #list)))
    if each then each(reply, from) end
  end
end

-- --- Writes that can be undone -----------------------------------------------------------------------

local function note(...)
  log[#log + 1] = { ... }
end

local function hset(key, field, value)
  if log then note('h', key, field, call('HGET', key, field)) end
  call('HSET', key, field, value)
end

local function hdel(key, field)
  if log then note('h', key, field, call('HGET', key, field)) end
  call('HDEL', key, field)
end

local function hincr(key, field, delta)
  if log then note('h', key, field, call('HGET', key, field)) end
  return call('HINCRBY', key, field, delta)
end

local function zadd(key, score, member)
  if log then note('z', key, member, call('ZSCORE', key, member)) end
  call('ZADD', key, score, member)
end

local function zrem(key, member)
  if log then note('z', key, member, call('ZSCORE', key, member)) end
  call('ZREM', key, member)
end

-- Put a key away; it comes back if the transaction is undone.
local function put_away(key)
  if call('EXISTS', key) == 0 then return end
  local place = P .. 't:' .. call('HINCRBY', P .. 'meta', 'next', 1)
  call('SADD', P .. 'txt', place)
  note('R', place, key)
  call('RENAME', key, place)
end

local function drop(key)
  if log then put_away(key) else call('UNLINK', key) end
end

local function push(key, left, values)
  if log then note('S', key, left and 0 or call('LLEN', key), #values, {}) end
  in_chunks(left and 'LPUSH' or 'RPUSH', key, values)
end

-- Take one value off an end, which is there.
local function pull(key, left)
  local value = call(left and 'LPOP' or 'RPOP', key)
  if log then note('S', key, left and 0 or call('LLEN', key), 0, { value }) end
  return value
end

local function lset(key, index, value)
  if log then note('S', key, index, 1, { call('LINDEX', key, index) }) end
  call('LSET', key, index, value)
end

local MARK = '\255garrison' -- no value begins like this

local function reversed(list)
  local turned, count = {}, #list
  for i = 1, count do turned[i] = list[count + 1 - i] end
  return turned
end

-- Put values in the place of so many from an index on. Only the shorter side is moved; to move one
-- value in the middle of a long list, the server searches for a mark.
local function splice(key, at, removed, values)
  local length = call('LLEN', key)
  if log then
    local old = removed > 0 and call('LRANGE', key, at, at + removed - 1) or {}
    note('S', key, at, #values, old)
  end
  local behind = length - at - removed
  if removed == 1 and #values == 1 then
    call('LSET', key, at, values[1])
  elseif removed == 1 and #values == 0 and math.min(at, behind) > 64 then
    call('LSET', key, at, MARK)
    call('LREM', key, at <= behind and 1 or -1, MARK)
  elseif removed == 0 and #values == 1 and math.min(at, behind) > 64 then
    local other = call('LINDEX', key, at)
    call('LSET', key, at, MARK)
    call('LINSERT', key, 'BEFORE', MARK, values[1])
    call('LSET', key, at + 1, other)
  elseif behind <= at then
    local tail = behind > 0 and call('LRANGE', key, at + removed, -1) or {}
    if at > 0 then call('LTRIM', key, 0, at - 1) else call('DEL', key) end
    in_chunks('RPUSH', key, values)
    in_chunks('RPUSH', key, tail)
  else
    local front = at > 0 and call('LRANGE', key, 0, at - 1) or {}
    call('LTRIM', key, at + removed, -1)
    in_chunks('LPUSH', key, reversed(values))
    in_chunks('LPUSH', key, reversed(front))
  end
end

local PARTS = { 'h:', 'o:', 'i:', 'k:', 'q:', 'c:' }

-- Apply a record; with a log of its own it gives the records that undo it.
local function apply(record)
  local what, key, a, b = record[1], record[2], record[3], record[4]
  if what == 'h' then
    if b then hset(key, a, b) else hdel(key, a) end
  elseif what == 'z' then
    if b then zadd(key, b, a) else zrem(key, a) end
  elseif what == 'S' then
    splice(key, a, b, record[5])
  elseif what == 'R' then
    if log then note('R', a, key) end
    call('RENAME', key, a)
  elseif what == 'X' then
    for _, part in ipairs(PARTS) do drop(P .. part .. key) end
  end
end

-- Undo all that a log tells; what brings it back, if `log` is set.
local function undo(records)
  for i = #records, 1, -1 do apply(records[i]) end
end

local function transaction_log()
  local records = {}
  for _, packed in ipairs(call('LRANGE', P .. 'txlog', 0, -1)) do
    for _, record in ipairs(cmsgpack.unpack(packed)) do records[#records + 1] = record end
  end
  return records
end

-- --- Change notifications ----------------------------------------------------------------------------

local function wake(number)
  local waiters = P .. 'w:' .. number
  for _, list in ipairs(call('SMEMBERS', waiters)) do
    call('RPUSH', list, 1)
    call('EXPIRE', list, WAKE_S)
  end
  call('DEL', waiters)
  if number ~= '0' then call('HDEL', P .. 'h:' .. number, 'w') end
end

-- A container has changed, whose head is this.
local function touch(number, head)
  hincr(P .. 'h:' .. number, 'v', 1)
  changed[number] = head.waited or changed[number] or false
end

-- --- The open transaction ----------------------------------------------------------------------------

local function leave_transaction()
  in_chunks('UNLINK', P .. 'txt', call('SMEMBERS', P .. 'txt'))
  call('DEL', P .. 'tx', P .. 'txlog', P .. 'txd', P .. 'txt')
  wake('0')
end

local function roll_back()
  call('DEL', P .. 'none') -- not even a full server refuses a script that has written already
  log = {} -- what is put away needs a place; it goes with the rest
  undo(transaction_log())
  log = nil
  leave_transaction()
end

-- Look at the transaction that is open. One whose lease is over has never been.
local function enter(writes)
  local open = call('GET', P .. 'tx')
  if not open then
    if FENCE ~= '' then fail('LOST') end
    return
  end
  local fence, _, lease = string.match(open, '^(%d+) (%d+) (%d+)$')
  if not fence then error('the open transaction is damaged') end
  if fence == FENCE then
    in_transaction = true
    return
  end
  if tonumber(lease) < now() then
    roll_back()
  else
    if writes and FENCE == '' then fail('HELD ' .. fence .. ' ' .. (lease - now())) end
    beside_transaction = true
  end
  if FENCE ~= '' then fail('LOST') end
end

-- --- Heads ---------------------------------------------------------------------------------------------

local KIND = {}
for _, kind in ipairs({ DICT, NAMESPACE, COUNTER }) do KIND[kind] = 'pairs' end
for _, kind in ipairs({ LIST, DEQUE, 6, 7, QUEUE, JOINABLE_QUEUE }) do KIND[kind] = 'items' end
KIND[SET] = 'members'

-- The head of a container. `wanted` is 'pairs', 'items', 'mapping' or nil for any kind.
local function head_of(number, wanted)
  local found = call('HMGET', P .. 'h:' .. number, 'k', 's', 'l', 'x', 'w', 'v')
  local kind = tonumber(found[1])
  if not kind then fail('GONE ' .. number) end
  local form = KIND[kind]
  if not form then error('a container of an unknown kind') end
  if wanted and form ~= wanted and (wanted ~= 'mapping' or form == 'items') then
    fail('WRONGKIND ' .. kind)
  end
  return {
    kind = kind,
    form = form,
    next = tonumber(found[2] or 0),
    limit = tonumber(found[3] or -1),
    shut = found[4],
    waited = found[5],
    version = tonumber(found[6] or 0),
  }
end

local function length_of(number, head)
  if head.form == 'items' then return call('LLEN', P .. 'q:' .. number) end
  return call('ZCARD', P .. 'o:' .. number)
end

-- --- Links -----------------------------------------------------------------------------------------------

-- The number, kind and ownership of the container that a value is; nothing if it is none.
local function link_of(value)
  local tag = byte(value)
  if (tag == CHILD and #value == 10) or (tag == REF and #value == 18) then
    return string.format('%.0f', struct.unpack('<I8', value, 3)), byte(value, 2), tag == CHILD
  end
end

local function is_simple(value)
  local tag = byte(value)
  return tag ~= CHILD and tag ~= REF and tag ~= TREE
end

local function doubt(number)
  local kept = call('HMGET', P .. 'h:' .. number, 'o', 'n', 'r', 'R')
  if not kept[1] and not kept[2] and (kept[3] or '0') == '0' and (kept[4] or '0') == '0' then
    call('ZADD', P .. 'gc', 'NX', now(), number)
    any_garbage = true
  end
end

local function count_links(number, delta)
  if delta ~= 0 then hincr(P .. 'h:' .. number, 'L', delta) end
end

-- A value is gone from its place; true if it was a link.
local function release(value)
  local number, _, owned = link_of(value)
  if not number then return false end
  local key = P .. 'h:' .. number
  if owned then hdel(key, 'o') else hincr(key, 'r', -1) end
  doubt(number)
  return true
end

-- A number that was never given before.
local function next_number(what)
  local number = call('HINCRBY', P .. 'meta', what, 1)
  if number == 1 then -- the server has lost the store
    call('DEL', P .. 'meta')
    fail('EMPTIED')
  end
  return string.format('%.0f', number)
end

local function new_container(kind, limit, typecode)
  local number = next_number('next')
  if log then note('X', number) end
  call('HSET', P .. 'h:' .. number, 'k', kind, 'l', limit, 't', typecode, 'v', 0)
  return number
end

-- A new key of a mapping; the caller counts the change.
local function insert(number, canonical, original, value)
  local place = hincr(P .. 'h:' .. number, 's', 1)
  zadd(P .. 'o:' .. number, place, canonical)
  if original ~= '' then hset(P .. 'k:' .. number, canonical, original) end
  if value then hset(P .. 'i:' .. number, canonical, value) end
end

local plant

-- What is stored for a value, and whether that is a link: a plain container becomes a child, a
-- reference is counted.
local function store(value)
  local tag = byte(value)
  if tag == TREE then return plant(value), true end
  if tag == CHILD or not tag then fail('MALFORMED') end
  local number, kind = link_of(value)
  if not number then
    if tag == REF then fail('MALFORMED') end
    return value, false
  end
  local is = call('HGET', P .. 'h:' .. number, 'k')
  if not is then fail('NOTARGET ' .. number) end
  if tonumber(is) ~= kind then fail('MALFORMED') end
  hincr(P .. 'h:' .. number, 'r', 1)
  return value, true
end

-- Raise before anything is written if a value cannot be stored.
local function check_value(value)
  local tag = byte(value)
  if tag == CHILD or not tag then fail('MALFORMED') end
  if tag == REF then
    local number, kind = link_of(value)
    local is = number and call('HGET', P .. 'h:' .. number, 'k')
    if not number then fail('MALFORMED') end
    if not is then fail('NOTARGET ' .. number) end
    if tonumber(is) ~= kind then fail('MALFORMED') end
  elseif tag == TREE then
    local count, at = struct.unpack('<I4', value, 3)
    local kind = byte(value, 2)
    if kind == DEQUE then at = at + 8 end
    for i = 1, (kind == DICT) and count * 2 or count do
      local size
      size, at = struct.unpack('<I4', value, at)
      local item = sub(value, at, at + size - 1)
      if kind ~= SET and not (kind == DICT and i % 2 == 1) then check_value(item) end
      at = at + size
    end
  end
end

-- The two forms of a key in a tree. The client has written both.
local function key_in(value)
  local size, at = struct.unpack('<I4', value, 2)
  return sub(value, at, at + size - 1), sub(value, at + size)
end

-- Make children of a plain container and of all that is in it; it has been checked.
function plant(value)
  local kind = byte(value, 2)
  local count, at = struct.unpack('<I4', value, 3)
  local limit = -1
  if kind == DEQUE then limit, at = struct.unpack('<i8', value, at) end
  local function item()
    local size, from = struct.unpack('<I4', value, at)
    at = from + size
    return sub(value, from, at - 1)
  end
  local number = new_container(kind, limit, '')
  call('HSET', P .. 'h:' .. number, 'o', 1)
  local links, values = 0, {}
  for _ = 1, count do
    local canonical, original
    if kind == DICT or kind == SET then canonical, original = key_in(item()) end
    local stored, is_link
    if kind ~= SET then
      stored, is_link = store(item())
      if is_link then links = links + 1 end
    end
    if canonical then insert(number, canonical, original, stored) else values[#values + 1] = stored end
  end
  if #values > 0 then push(P .. 'q:' .. number, false, values) end
  count_links(number, links)
  return struct.pack('<BBI8', CHILD, kind, tonumber(number))
end

-- Whether storing `new` in the place of `old` would only change who owns a container.
local function is_same_container(old, new)
  local number = link_of(old)
  local other, _, owned = link_of(new)
  return number ~= nil and number == other and not owned
end

-- What to store in the place of a value; nothing if it is there already.
local function exchange(number, old, new)
  if is_simple(old) and is_simple(new) then return new end
  if is_same_container(old, new) then return nil end
  local stored, is_link = store(new) -- the new one first: what the old one lets go may be in it
  local was_link = release(old)
  count_links(number, (is_link and 1 or 0) - (was_link and 1 or 0))
  return stored
end

-- --- Plain copies -------------------------------------------------------------------------------------

local copy

local function copy_value(value, out, depth)
  local number, _, owned = link_of(value)
  if owned then copy(number, out, depth + 1) else out[#out + 1] = value end
end

-- The keys and values of a mapping from one place of its order to another.
local function entries(number, head, from, to, with_values, each)
  local keys = call('ZRANGE', P .. 'o:' .. number, from, to)
  local has_originals = call('EXISTS', P .. 'k:' .. number) == 1
  for at = 1, #keys, CHUNK do
    local last = math.min(at + CHUNK - 1, #keys)
    local values, originals
    if with_values and head.form == 'pairs' then
      values = call('HMGET', P .. 'i:' .. number, unpack(keys, at, last))
    end
    if has_originals then originals = call('HMGET', P .. 'k:' .. number, unpack(keys, at, last)) end
    for i = at, last do
      local value = values and values[i - at + 1]
      if values and not value then error('a key without its value') end
      each(keys[i], originals and originals[i - at + 1] or '', value)
    end
  end
end

-- A container and all that it owns, in a row: a head, then its items, each perhaps a container.
function copy(number, out, depth)
  if depth > 1000 then fail('DEEP') end
  local head = head_of(number)
  local count = length_of(number, head)
  out[#out + 1] = struct.pack('<BBI4i8', TREE, head.kind, count, head.kind == DEQUE and head.limit or -1)
  if head.form == 'items' then
    for _, value in ipairs(call('LRANGE', P .. 'q:' .. number, 0, -1)) do
      copy_value(value, out, depth)
    end
    return out
  end
  entries(number, head, 0, -1, true, function(canonical, original, value)
    out[#out + 1], out[#out + 2] = canonical, original
    if value then copy_value(value, out, depth) end
  end)
  return out
end

-- What the taker of a value is given: a child as a plain container.
local function to_plain(value)
  local number, _, owned = link_of(value)
  return owned and copy(number, {}, 0) or value
end

-- Take a key out of a mapping, and let go what hangs below its value; the value as a plain one if that
-- is wanted, else true. Nothing if there is no such key.
local function take_key(number, canonical, head, plain_wanted)
  local items = P .. 'i:' .. number
  local value, plain
  if head.form == 'pairs' then
    value = call('HGET', items, canonical)
    if not value then return nil end
    plain = plain_wanted and to_plain(value)
    hdel(items, canonical)
  elseif not call('ZSCORE', P .. 'o:' .. number, canonical) then
    return nil
  end
  zrem(P .. 'o:' .. number, canonical)
  hdel(P .. 'k:' .. number, canonical)
  if value and release(value) then count_links(number, -1) end
  touch(number, head)
  return plain or true
end

-- Drop what a deque has too many, from one of its ends.
local function trim(number, head, left)
  if head.kind ~= DEQUE or head.limit < 0 then return end
  local items = P .. 'q:' .. number
  for _ = head.limit + 1, call('LLEN', items) do
    if release(pull(items, left)) then count_links(number, -1) end
  end
end

-- Take an item out of a sequence; it as a plain value.
local function take_item(number, index, what)
  local head = head_of(number, 'items')
  local items = P .. 'q:' .. number
  local length = call('LLEN', items)
  if length == 0 and head.shut then fail('SHUT') end
  if length == 0 and what == 'pop' then fail('INDEX empty ' .. head.kind) end
  if index < 0 then index = index + length end
  if index < 0 or index >= length then fail('INDEX ' .. what .. ' ' .. head.kind) end
  local old
  if index == 0 or index == length - 1 then
    old = pull(items, index == 0)
  else
    old = call('LINDEX', items, index)
    splice(items, index, 1, {})
  end
  local plain = to_plain(old)
  if release(old) then count_links(number, -1) end
  touch(number, head)
  return plain
end

-- Remove all entries of a container.
local function empty(number, head)
  if (call('HGET', P .. 'h:' .. number, 'L') or '0') ~= '0' then
    local links = 0
    local function let_go(values)
      for _, value in ipairs(values) do
        if release(value) then links = links - 1 end
      end
    end
    if head.form == 'items' then let_go(call('LRANGE', P .. 'q:' .. number, 0, -1))
    else let_go(call('HVALS', P .. 'i:' .. number)) end
    count_links(number, links)
  end
  for _, part in ipairs(head.form == 'items' and { 'q:' } or { 'o:', 'i:', 'k:' }) do
    drop(P .. part .. number)
  end
end

-- --- Numbers ------------------------------------------------------------------------------------------

local EXACT = 2 ^ 52

local function number_in(value)
  local tag = byte(value)
  if tag == 3 and #value == 9 then return struct.unpack('<i8', value, 2), true end
  if tag == 5 and #value == 9 then return struct.unpack('<d', value, 2), false end
  if tag == 1 or tag == 2 then return tag - 1, true end
  if tag == 4 then fail('INEXACT') end
  fail('NONUMBER')
end

-- The sum of two values, where the server's arithmetic is exact; else the client adds.
local function sum(a, b)
  local x, x_whole = number_in(a)
  local y, y_whole = number_in(b)
  if (x_whole and math.abs(x) > EXACT) or (y_whole and math.abs(y) > EXACT) then fail('INEXACT') end
  if x_whole and y_whole then return struct.pack('<Bi8', 3, x + y) end
  return struct.pack('<Bd', 5, x + y)
end

-- --- Garbage --------------------------------------------------------------------------------------------

-- Free values from the front of a container that is being freed; how many.
local function free_some(number, form, most)
  if form == 'items' then
    local key = P .. 'q:' .. number
    local values = call('LRANGE', key, 0, most - 1)
    for _, value in ipairs(values) do release(value) end
    call('LTRIM', key, #values, -1)
    return #values
  end
  local keys = call('ZRANGE', P .. 'o:' .. number, 0, most - 1)
  if #keys == 0 then return 0 end
  in_chunks('HMGET', P .. 'i:' .. number, keys, function(values)
    for _, value in ipairs(values) do
      if value then release(value) end
    end
  end)
  in_chunks('ZREM', P .. 'o:' .. number, keys)
  return #keys
end

-- Free one container, or a part of it; how many values that were, and whether all are.
local function free(number, most)
  local key = P .. 'h:' .. number
  local head = call('HMGET', key, 'k', 'd', 'o', 'n', 'r', 'R', 'L', 'w')
  if head[1] then
    if head[3] or head[4] or (head[5] or '0') ~= '0' or (head[6] or '0') ~= '0' then return 1, true end
    call('HSET', key, 'd', head[1])
    call('HDEL', key, 'k')
    head[2] = head[1]
  end
  if head[8] then wake(number) end
  local done = 1
  if head[2] and (head[7] or '0') ~= '0' then
    done = free_some(number, KIND[tonumber(head[2])], most)
    if done == most then return done, false end
    for _, claim in ipairs(call('HVALS', P .. 'c:' .. number)) do
      release(sub(claim, string.find(claim, ' ', 1, true) + 1))
    end
  end
  for _, part in ipairs(PARTS) do call('UNLINK', P .. part .. number) end
  return done + 1, true
end

-- Free what has been garbage for a while: until then it may be stored again, as in a swap of two
-- items. Whether there is more of that.
local function collect(most, grace)
  if call('EXISTS', P .. 'tx') == 1 then return 0 end
  local oldest = now() - (grace or GRACE_MS)
  while most > 0 do
    local number = call('ZRANGEBYSCORE', P .. 'gc', '-inf', oldest, 'LIMIT', 0, 1)[1]
    if not number then return 0 end
    local done, over = free(number, most)
    if over then call('ZREM', P .. 'gc', number) end
    most = most - done
  end
  return 1
end

-- --- Owners -----------------------------------------------------------------------------------------------

local function renew(lease)
  call('ZADD', P .. 'own', now() + lease, OWNER)
end

local function unclaim(number, ticket)
  local claim = call('HGET', P .. 'c:' .. number, ticket)
  if not claim then return nil end
  local owner, value = string.match(claim, '^(%d+) (.*)$')
  if not owner then error('a claim is damaged') end
  hdel(P .. 'c:' .. number, ticket)
  hdel(P .. 'cl:' .. owner, number .. ':' .. ticket)
  return value
end

-- Drop references of an owner to a container: of those that there are at most so many.
local function drop_refs(owner, number, count)
  local key = P .. 'or:' .. owner
  local has = tonumber(call('HGET', key, number) or 0)
  count = math.min(count, has)
  if count < 1 then return end
  if count == has then call('HDEL', key, number) else call('HINCRBY', key, number, -count) end
  if call('EXISTS', P .. 'h:' .. number) == 1 then
    call('HINCRBY', P .. 'h:' .. number, 'R', -count)
    doubt(number)
  end
end

-- Give back what an owner has, a part of it at a time; whether that was all.
local function reap(owner)
  local _, claims = unpack(call('HSCAN', P .. 'cl:' .. owner, 0, 'COUNT', CHUNK))
  local tickets = {}
  for i = 1, #claims, 2 do
    local number, ticket = string.match(claims[i], '^(%d+):(%d+)$')
    tickets[#tickets + 1] = { number, tonumber(ticket) }
  end
  table.sort(tickets, function(a, b) return a[2] > b[2] end)
  for _, each in ipairs(tickets) do
    local number, value = each[1], unclaim(each[1], each[2])
    if value and call('HEXISTS', P .. 'h:' .. number, 'k') == 1 then
      push(P .. 'q:' .. number, true, { value })
      touch(number, head_of(number))
    end
  end
  local _, refs = unpack(call('HSCAN', P .. 'or:' .. owner, 0, 'COUNT', CHUNK))
  for i = 1, #refs, 2 do drop_refs(owner, refs[i], tonumber(refs[i + 1])) end
  if call('EXISTS', P .. 'cl:' .. owner, P .. 'or:' .. owner) > 0 then return false end
  call('ZREM', P .. 'own', owner)
  call('UNLINK', P .. 'rep:' .. owner)
  return true
end

-- Give back what owners have whose leases are over.
local function reap_expired()
  if in_transaction or beside_transaction then return end
  for _, owner in ipairs(call('ZRANGEBYSCORE', P .. 'own', '-inf', '(' .. now(), 'LIMIT', 0, 4)) do
    if not reap(owner) then return end
  end
end
