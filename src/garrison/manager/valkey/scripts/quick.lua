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

local function set_pairs(number, count)
  no_links_in(number)
  local items, head = P .. 'i:' .. number, P .. 'h:' .. number
  for from = 6, 5 + count, CHUNK do
    local last = math.min(from + CHUNK - 1, 5 + count)
    local olds = call('HMGET', items, unpack(ARGV, from, last))
    local pairs_to_set, new, seen = {}, {}, {}
    for at = from, last do
      local canonical = ARGV[at]
      pairs_to_set[#pairs_to_set + 1], pairs_to_set[#pairs_to_set + 2] = canonical, ARGV[at + count]
      if not olds[at - from + 1] and not seen[canonical] then
        seen[canonical] = true
        new[#new + 1], new[#new + 2] = 0, canonical
        local original = ARGV[at + 2 * count] or ''
        if original ~= '' then call('HSET', P .. 'k:' .. number, canonical, original) end
      end
    end
    if #new > 0 then
      local place = call('HINCRBY', head, 's', #new / 2) - #new / 2
      for i = 1, #new, 2 do new[i] = place + (i + 1) / 2 end
      call('ZADD', P .. 'o:' .. number, unpack(new))
    end
    call('HSET', items, unpack(pairs_to_set))
  end
end

local function take_item(number, index)
  local items = P .. 'q:' .. number
  local old = call('LINDEX', items, index)
  if not old or (index ~= 0 and index ~= -1) then fail('SLOW') end
  simple_only(old)
  call(index == 0 and 'LPOP' or 'RPOP', items)
  touch(number)
  return old
end
