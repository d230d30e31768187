-- The operations, and what is done about sessions that are over.

local function new_state(kind, size, lock_name)
  local state = { k = kind, z = size, q = {} }
  if kind == 'Event' then
    state.b = 0
  elseif kind == 'Barrier' then
    state.b, state.h, state.o = 0, {}, {}
  elseif kind == 'Condition' then
    state.l = lock_name
  else
    state.p = (kind == 'Lock' or kind == 'RLock') and 1 or size
    state.f, state.o = state.p, {}
  end
  return state
end

local function is_initial(state)
  if state.q[1] then return false end
  if state.k == 'Condition' then return true end
  if state.k == 'Event' then return state.b == 0 end
  if state.k == 'Barrier' then return state.b == 0 and not state.o[1] end
  return state.f == state.p
end

-- End the leases and waits of sessions that are over.
local function prune(state)
  if state.f then
    prune_lock(state)
  elseif state.k == 'Barrier' then
    prune_barrier(state)
  else
    filter(state.q, function(each) return is_alive(each.s) end)
  end
end

local function is_used(name)
  for _, session in ipairs(call('SMEMBERS', P .. 'users:' .. name)) do
    if is_alive(session) then return true end
    call('SREM', P .. 'users:' .. name, session)
  end
  return false
end

-- Keep a state that nobody uses for a moment, unless there is something to remember.
local function keep_or_expire(name, grace)
  local state = load(name)
  save(name)
  if (state.a == 1 or is_initial(state)) and not is_used(name) then
    call('PEXPIRE', P .. 'lock:' .. name, math.max(grace, state.g or 0))
  end
end

local function found(name)
  local state = load(name)
  if not state then fail('UNKNOWN', name) end
  prune(state)
  return state
end

-- The lock of a condition, with that of its waiters which have a lease still.
local function lock_of(condition)
  local lock = load(condition.l)
  if not lock then fail('UNKNOWN', condition.l) end
  prune(lock)
  return lock
end

local OPERATIONS = {}

-- kind, size, name of a condition's lock, whether it is anonymous
function OPERATIONS.open(kind, size, lock_name, anonymous)
  local state = load(NAME)
  if state then
    prune(state)
    -- One that was closed is kept for a moment; one whose users have died is forgotten here.
    local was_closed = call('PTTL', P .. 'lock:' .. NAME) >= 0
    if state.a ~= 1 and is_initial(state) and not was_closed and not is_used(NAME) then
      state = nil
    end
  end
  if not state then
    state = new_state(kind, tonumber(size), lock_name)
    state.a = tonumber(anonymous)
    loaded[NAME] = state
  end
  local own = state.l or ''
  if state.k ~= kind then
    fail('KIND', string.format("'%s' is a %s of this manager, not a %s", NAME, state.k, kind))
  elseif own ~= lock_name then
    fail('KIND', string.format("the %s '%s' of this manager has the lock '%s', not '%s'", kind,
      NAME, own, lock_name))
  end
  call('SADD', P .. 'users:' .. NAME, SESSION)
  call('SADD', P .. 'used:' .. SESSION, NAME)
  return { state.z }
end

-- A pickle of it may be on its way: keep it for longer.
function OPERATIONS.send(grace)
  found(NAME).g = tonumber(grace)
  return {}
end

function OPERATIONS.close()
  local state = load(NAME)
  if not state then return {} end
  prune(state)
  local lists = { state.q, state.o or {}, state.h or {} }
  for _, list in ipairs(lists) do
    for _, each in ipairs(list) do
      if each.s == SESSION then return {} end -- it holds it, or waits for it
    end
  end
  call('SREM', P .. 'users:' .. NAME, SESSION)
  call('SREM', P .. 'used:' .. SESSION, NAME)
  keep_or_expire(NAME, GRACE_MS)
  loaded[NAME] = nil
  return {}
end

function OPERATIONS.acquire(thread, mark)
  return acquire(found(NAME), thread, mark)
end

function OPERATIONS.try(thread, mark)
  local lock = found(NAME)
  local result = acquire(lock, thread, mark)
  return result[1] == 'wait' and leave_lock(lock, thread, mark) or result
end

function OPERATIONS.release(thread, number, since)
  return release(found(NAME), thread, tonumber(number), tonumber(since))
end

function OPERATIONS.value()
  return { found(NAME).f }
end

function OPERATIONS.is_set()
  return { found(NAME).b }
end

function OPERATIONS.set()
  return set_event(found(NAME))
end

function OPERATIONS.clear()
  found(NAME).b = 0
  return {}
end

-- thread, mark, whether it is the first time, and: a condition's number, whether a party can act
function OPERATIONS.wait(thread, mark, is_first, more)
  local state = found(NAME)
  if state.k == 'Event' then return wait_for_event(state, thread, mark) end
  if state.k == 'Barrier' then
    return wait_at_barrier(state, thread, mark, tonumber(more), is_first == '1')
  end
  return wait_for_notification(state, lock_of(state), thread, mark, tonumber(more))
end

-- The time is over.
function OPERATIONS.leave(thread, mark)
  local state = found(NAME)
  if state.k == 'Event' then return leave_event(state, thread, mark) end
  if state.k == 'Barrier' then return leave_barrier(state, thread, mark) end
  if state.k == 'Condition' then return leave_condition(state, lock_of(state), thread, mark) end
  return leave_lock(state, thread, mark)
end

-- The wait was interrupted.
function OPERATIONS.cancel(thread, mark)
  local state = found(NAME)
  if state.f then return cancel_acquire(state, thread, mark) end
  return OPERATIONS.leave(thread, mark)
end

function OPERATIONS.notify(thread, count, number)
  local state = found(NAME)
  return notify(state, lock_of(state), thread, tonumber(count), tonumber(number))
end

function OPERATIONS.waiting()
  return { #found(NAME).q }
end

function OPERATIONS.state()
  local state = found(NAME)
  return { #state.q, state.b }
end

function OPERATIONS.acted(thread)
  return acted(found(NAME), thread)
end

function OPERATIONS.reset()
  local state = found(NAME)
  break_all(state)
  state.b = 0
  return {}
end

function OPERATIONS.abort()
  return abort(found(NAME))
end

-- --- Sessions ------------------------------------------------------------------------------------

-- End all that a session holds: its lease is over.
local function forget(session)
  call('ZREM', P .. 'sessions', session)
  leases[session] = 0
  for _, name in ipairs(call('SMEMBERS', P .. 'used:' .. session)) do
    local state = load(name)
    call('SREM', P .. 'users:' .. name, session)
    if state then
      prune(state)
      keep_or_expire(name, GRACE_MS)
      loaded[name] = nil
    end
  end
  call('DEL', P .. 'used:' .. session)
end

local SESSIONS = {}

-- Begin a session of so many ms; return a number below those of all its leases.
function SESSIONS.begin(lease)
  call('ZADD', P .. 'sessions', now + lease, SESSION)
  return { next_number() }
end

-- Go on for so many ms, unless it is over; clean up after those that are.
function SESSIONS.renew(lease)
  local alive = is_alive(SESSION)
  if alive then call('ZADD', P .. 'sessions', now + lease, SESSION) end
  local over = call('ZRANGEBYSCORE', P .. 'sessions', '-inf', now, 'LIMIT', 0, REAPED)
  for _, each in ipairs(over) do forget(each) end
  return { alive and 1 or 0 }
end

SESSIONS['end'] = function()
  forget(SESSION)
  return {}
end

local of_session = SESSIONS[ARGV[1]]
if of_session then return of_session(ARGV[4]) end
if not is_alive(SESSION) then fail('SESSION', SESSION) end
local result = OPERATIONS[ARGV[1]](unpack(ARGV, 4))
for name in pairs(loaded) do save(name) end
return result
