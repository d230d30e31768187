-- Writes that can be undone, and the open transaction.

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

-- A container has changed.
local function touch(number)
  hincr(P .. 'h:' .. number, 'v', 1)
  changed[number] = call('HEXISTS', P .. 'h:' .. number, 'w') == 1
end

-- --- The open transaction ----------------------------------------------------------------------------

local function leave_transaction()
  in_chunks('UNLINK', P .. 'txt', call('SMEMBERS', P .. 'txt'))
  call('DEL', P .. 'tx', P .. 'txlog', P .. 'txn', P .. 'txd', P .. 'txt')
  wake('0')
end

local function roll_back()
  call('DEL', P .. 'none') -- not even a full server refuses a script that has written already
  log = {} -- what is put away needs a place; it goes with the rest
  undo(transaction_log())
  log = nil
  leave_transaction()
end

-- What a client is told that has to wait for the end of a transaction.
local function held()
  local fence, _, lease = string.match(call('GET', P .. 'tx'), '^(%d+) (%d+) (%d+)$')
  return 'HELD ' .. fence .. ' ' .. (lease - now())
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
    if writes and FENCE == '' then fail(held()) end
    beside_transaction = true
  end
  if FENCE ~= '' then fail('LOST') end
end
