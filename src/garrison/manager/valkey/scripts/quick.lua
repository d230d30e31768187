-- What stands in a quick script in the place of functions of the prelude: no transaction is open, so
-- nothing is undone; and no value is a container, or has one in it. Where that is not so, the script
-- fails before it has written anything, and the client runs the full one.

local function hset(key, field, value)
  call('HSET', key, field, value)
end

local function hdel(key, field)
  call('HDEL', key, field)
end

local function hincr(key, field, delta)
  return call('HINCRBY', key, field, delta)
end

local function zadd(key, score, member)
  call('ZADD', key, score, member)
end

local function zrem(key, member)
  call('ZREM', key, member)
end

local function push(key, left, values)
  in_chunks(left and 'LPUSH' or 'RPUSH', key, values)
end

local function pull(key, left)
  return call(left and 'LPOP' or 'RPOP', key)
end

local function lset(key, index, value)
  call('LSET', key, index, value)
end

local function simple_only(value)
  local tag = byte(value)
  if tag == CHILD or tag == REF or tag == TREE then fail('SLOW') end
end

local function no_links_in(number)
  if (call('HGET', P .. 'h:' .. number, 'L') or '0') ~= '0' then fail('SLOW') end
end

local check_value = simple_only

local function store(value)
  return value, false
end

local function exchange(_, old, new)
  simple_only(old)
  simple_only(new)
  return new
end

local function release()
  return false
end

local function to_plain(value)
  return value
end

local function count_links() end
