-- Values: containers in containers, plain copies of them, and sums.

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

-- Nothing: where a quick script gives up, before it writes.
local function simple_only() end

local function no_links_in() end

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

-- Set so many keys from the arguments of `dict_update`.
local function set_pairs(number, count)
  local items = P .. 'i:' .. number
  for at = 6, 5 + count do
    local canonical, value = ARGV[at], ARGV[at + count]
    local old = call('HGET', items, canonical)
    if old then
      local stored = exchange(number, old, value)
      if stored then hset(items, canonical, stored) end
    else
      local stored, is_link = store(value)
      insert(number, canonical, ARGV[at + 2 * count] or '', stored)
      if is_link then count_links(number, 1) end
    end
  end
end

-- --- Plain copies -------------------------------------------------------------------------------------

local copy

local function copy_value(value, out, above)
  local number, _, owned = link_of(value)
  if owned then copy(number, out, above) else out[#out + 1] = value end
end

-- The values of fields, as HMGET has them, of any number of fields.
local function fields_of(key, fields)
  local found = {}
  for from = 1, #fields, WHOLE do
    local last = math.min(from + WHOLE - 1, #fields)
    local some = call('HMGET', key, unpack(fields, from, last))
    if from == 1 and last == #fields then return some end
    for i = from, last do found[i] = some[i - from + 1] end
  end
  return found
end

-- The keys, originals and values of a mapping from one place of its order to another.
local function entries(number, head, from, to, with_values)
  local keys = call('ZRANGE', P .. 'o:' .. number, from, to)
  local originals, values = false, false
  if call('EXISTS', P .. 'k:' .. number) == 1 then originals = fields_of(P .. 'k:' .. number, keys) end
  if with_values and head.form == 'pairs' then values = fields_of(P .. 'i:' .. number, keys) end
  return keys, originals, values
end

-- A container and all that it owns, in a row: a head, then its items, each perhaps a container.
function copy(number, out, above)
  if above[number] then error('a container is in itself') end
  if #above >= 1000 then fail('DEEP') end
  above[number], above[#above + 1] = true, number
  local head = head_of(number)
  local limit = head.kind == DEQUE and head.limit or -1
  out[#out + 1] = struct.pack('<BBI4i8', TREE, head.kind, length_of(number, head), limit)
  if head.form == 'items' then
    for _, value in ipairs(call('LRANGE', P .. 'q:' .. number, 0, -1)) do
      copy_value(value, out, above)
    end
  else
    local keys, originals, values = entries(number, head, 0, -1, true)
    for i, canonical in ipairs(keys) do
      out[#out + 1], out[#out + 2] = canonical, originals and originals[i] or ''
      if values then
        if not values[i] then error('a key without its value') end
        copy_value(values[i], out, above)
      end
    end
  end
  above[number], above[#above] = nil, nil
  return out
end

-- What the taker of a value is given: a child as a plain container.
local function to_plain(value)
  local number, _, owned = link_of(value)
  return owned and copy(number, {}, {}) or value
end

-- Take a key out of a mapping, and let go what hangs below its value; the value as a plain one if that
-- is wanted, else true. Nothing if there is no such key.
local function take_key(number, canonical, head, plain_wanted)
  local items = P .. 'i:' .. number
  local value, plain
  if head.form == 'pairs' then
    value = call('HGET', items, canonical)
    if not value then return nil end
    simple_only(value)
    plain = plain_wanted and to_plain(value)
    hdel(items, canonical)
  elseif not call('ZSCORE', P .. 'o:' .. number, canonical) then
    return nil
  end
  zrem(P .. 'o:' .. number, canonical)
  hdel(P .. 'k:' .. number, canonical)
  if value and release(value) then count_links(number, -1) end
  touch(number)
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
  local old = call('LINDEX', items, index)
  simple_only(old)
  if index == 0 or index == length - 1 then
    pull(items, index == 0)
  else
    splice(items, index, 1, {})
  end
  local plain = to_plain(old)
  if release(old) then count_links(number, -1) end
  touch(number)
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
