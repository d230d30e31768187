-- Conditions: a lock of their own, and the waiters for a notification.
--
--   l  the name of the lock
--   q  waiters { s, t, m, d times that the waiter had the lock }

local function require_owner(lock, thread, number)
  check_lease(lock, number, 0)
  local owner, place = find(lock.o, SESSION, thread)
  if not owner then fail('NOTOWNER', 'cannot wait on or notify an un-acquired lock') end
  return owner, place
end

-- Let a waiter have the lock again; only then is it answered.
local function return_lock(lock, waiter, notified)
  waiter.x = notified and 1 or -1
  lock.q[#lock.q + 1] = waiter
  grant(lock)
end

-- What has come of a wait so far.
local function wait_result(condition, lock, thread, mark)
  local owner = find(lock.o, SESSION, thread)
  if owner and owner.m == mark then return { owner.r } end
  if find(condition.q, SESSION, thread, mark) or find(lock.q, SESSION, thread, mark) then
    return waiting(lock.o, lock.q)
  end
end

local function wait_for_notification(condition, lock, thread, mark, number)
  local known = wait_result(condition, lock, thread, mark)
  if known then return known end
  local owner, place = require_owner(lock, thread, number)
  call('DEL', P .. 'wake:' .. SESSION .. ':' .. thread)
  condition.q[#condition.q + 1] = { s = SESSION, t = thread, m = mark, d = owner.c }
  give_back(lock, place, true)
  grant(lock)
  return waiting(lock.o, lock.q)
end

-- End the wait for a notification; the lock is acquired again all the same.
local function leave_condition(condition, lock, thread, mark)
  local waiter, place = find(condition.q, SESSION, thread, mark)
  if waiter then
    table.remove(condition.q, place)
    return_lock(lock, waiter, false)
  end
  return reply or wait_result(condition, lock, thread, mark) or { 0 }
end

local function notify(condition, lock, thread, count, number)
  require_owner(lock, thread, number)
  for _ = 1, count < 0 and #condition.q or math.min(count, #condition.q) do
    return_lock(lock, table.remove(condition.q, 1), true)
  end
  return {}
end
