-- What stands in front of the locks: sessions, states, and answers to waiters.
--
-- KEYS[1]    P, the beginning of all keys. The keys below lie in its slot.
-- ARGV[1]    the operation
-- ARGV[2]    the caller's session: a process, until its lease ends
-- ARGV[3]    the name of a lock, event, condition or barrier
-- ARGV[4..]  the operation's arguments; most begin with the caller's thread
--
-- P sessions    zset: sessions by the end of their lease, in ms of this server's clock
-- P used:S      set: the names of what session S uses
-- P users:NAME  set: the sessions that use it
-- P lock:NAME   packed: the state of a lock; see `open`
-- P wake:S:T    list: "mark result ...", the answer to the wait of thread T; it stays until the
--               thread's next wait, so that it can be read again after a broken connection
-- P fence       the number of the latest lease
local P, SESSION, NAME = KEYS[1], ARGV[2], ARGV[3]
local call = redis.call
local ANSWER_MS = 60000 -- for longer nobody asks for an answer
local GRACE_MS = 1000   -- in which a forked child opens what its parent has closed
local REAPED = 5        -- sessions that one renewal cleans up after

call('DEL', P .. 'none') -- a write that is never refused: after it, a full server takes the others

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The number of a new lease. By the clock, so that it is larger than those of an emptied server.
local function next_number()
  local last = tonumber(call('GET', P .. 'fence') or 0)
  local number = math.max(last + 1, time[1] * 1000000 + time[2])
  call('SET', P .. 'fence', string.format('%.0f', number))
  return number
end

-- --- Sessions ------------------------------------------------------------------------------------

local leases = {} -- the ends of leases that were looked up

local function lease_end(session)
  if leases[session] == nil then
    leases[session] = tonumber(call('ZSCORE', P .. 'sessions', session) or 0)
  end
  return leases[session]
end

local function is_alive(session)
  return lease_end(session) > now
end

-- --- States --------------------------------------------------------------------------------------

local loaded = {} -- by name; what was loaded is saved

local function load(name)
  if loaded[name] == nil then
    local packed = call('GET', P .. 'lock:' .. name)
    loaded[name] = packed and cmsgpack.unpack(packed) or false
  end
  return loaded[name]
end

-- What is saved is kept, unless it is let expire again.
local function save(name, option)
  local state = loaded[name]
  local words = { 'SET', P .. 'lock:' .. name, state and cmsgpack.pack(state), option }
  if state then call(unpack(words)) end
end

-- Refuse the operation. What was done about sessions that are over stays.
local function fail(code, text)
  for name in pairs(loaded) do save(name, 'KEEPTTL') end
  error({ err = 'GARRISON ' .. code .. ' ' .. text })
end

-- Remove what does not pass a test from a list; return what was removed.
local function filter(list, is_kept)
  local removed, place = {}, 1
  for i = 1, #list do
    local each = list[i]
    list[i] = nil
    if is_kept(each) then
      list[place] = each
      place = place + 1
    else
      removed[#removed + 1] = each
    end
  end
  return removed
end

-- --- Answers -------------------------------------------------------------------------------------

local reply -- to the caller

-- Answer a waiter: its thread sleeps at its list, if it is not the caller.
local function answer(waiter, ...)
  if waiter.s == SESSION and waiter.t == ARGV[4] and waiter.m == ARGV[5] then
    reply = { ... }
    return
  end
  local words = { waiter.m }
  for _, each in ipairs({ ... }) do words[#words + 1] = string.format('%.0f', each) end
  local key = P .. 'wake:' .. waiter.s .. ':' .. waiter.t
  call('DEL', key)
  call('RPUSH', key, table.concat(words, ' '))
  call('PEXPIRE', key, ANSWER_MS)
end

local function is_of(entry, session, thread)
  return entry.s == session and entry.t == thread
end

local function find(list, session, thread, mark)
  for i, each in ipairs(list) do
    if is_of(each, session, thread) and (mark == nil or each.m == mark) then return each, i end
  end
end

-- What the caller has to do: wait, and look again once the next lease may be over.
local function waiting(...)
  local soonest = now + 10000
  for _, list in ipairs({ ... }) do
    for _, each in ipairs(list) do
      if each.s ~= SESSION then soonest = math.min(soonest, lease_end(each.s)) end
    end
  end
  return { 'wait', math.max(1, soonest - now) }
end
