-- What keeps containers alive, and what is done when nothing does.

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
  while most > 0 do
    local oldest = now() - (grace or GRACE_MS)
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
  call('PERSIST', P .. 'rep:' .. OWNER)
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
      touch(number)
    end
  end
  local _, refs = unpack(call('HSCAN', P .. 'or:' .. owner, 0, 'COUNT', CHUNK))
  for i = 1, #refs, 2 do drop_refs(owner, refs[i], tonumber(refs[i + 1])) end
  if call('EXISTS', P .. 'cl:' .. owner, P .. 'or:' .. owner) > 0 then return false end
  call('ZREM', P .. 'own', owner)
  call('EXPIRE', P .. 'rep:' .. owner, REPLIES_S) -- it may just have been cut off
  return true
end

-- Give back what owners have whose leases are over.
local function reap_expired()
  if in_transaction or beside_transaction then return end
  for _, owner in ipairs(call('ZRANGEBYSCORE', P .. 'own', '-inf', '(' .. now(), 'LIMIT', 0, 4)) do
    if not reap(owner) then return end
  end
end
