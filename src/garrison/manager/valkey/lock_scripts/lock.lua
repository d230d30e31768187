-- Locks, recursive locks and semaphores.
--
--   f free permits, p permits at first
--   o owners { s session, t thread, c count, n number of the lease, m mark of its latest wait,
--             r result of that }
--   q waiters { s, t, m, d times that it is to be acquired, x -1 after a wait without notification }

local function grant(lock)
  while lock.f > 0 and lock.q[1] do
    local waiter = table.remove(lock.q, 1)
    local owner = find(lock.o, waiter.s, waiter.t)
    if not owner then
      owner = { s = waiter.s, t = waiter.t, c = 0 }
      lock.o[#lock.o + 1] = owner
    end
    lock.f = lock.f - 1
    owner.c = owner.c + (waiter.d or 1)
    owner.n = next_number()
    owner.m, owner.r = waiter.m, owner.n * (waiter.x or 1)
    answer(waiter, owner.r)
  end
end

-- Return permits of an owner: one, or all.
local function give_back(lock, place, all)
  local owner = lock.o[place]
  local count = all and owner.c or 1
  owner.c = owner.c - count
  if owner.c == 0 then table.remove(lock.o, place) end
  if lock.k == 'RLock' then count = owner.c == 0 and 1 or 0 end
  lock.f = lock.f + count
end

-- End the leases and the waits of sessions that are over.
local function prune_lock(lock)
  filter(lock.q, function(each) return is_alive(each.s) end)
  for i = #lock.o, 1, -1 do
    if not is_alive(lock.o[i].s) then give_back(lock, i, true) end
  end
  grant(lock)
end

local function check_lease(lock, number, since)
  if number == 0 then return end
  local current = lock.k ~= 'Lock' and lock.k ~= 'RLock' and number >= since
  for _, owner in ipairs(lock.o) do current = current or owner.n == number end
  if not current then
    fail('LEASE', string.format('lease %.0f has expired: another thread released it, or it ended '
      .. 'while this process gave no sign of life', number))
  end
end

local function acquire(lock, thread, mark)
  local owner = find(lock.o, SESSION, thread)
  if owner and owner.m == mark then return { owner.r } end
  if find(lock.q, SESSION, thread, mark) then return waiting(lock.o, lock.q) end
  call('DEL', P .. 'wake:' .. SESSION .. ':' .. thread)
  if lock.k == 'RLock' and owner then
    owner.c, owner.m, owner.r = owner.c + 1, mark, owner.n
    return { owner.n }
  end
  lock.q[#lock.q + 1] = { s = SESSION, t = thread, m = mark }
  grant(lock)
  return reply or waiting(lock.o, lock.q)
end

-- End a wait without success, unless it was granted.
local function leave_lock(lock, thread, mark)
  local owner = find(lock.o, SESSION, thread)
  if owner and owner.m == mark then return { owner.r } end
  local _, place = find(lock.q, SESSION, thread, mark)
  if place then table.remove(lock.q, place) end
  return { 0 }
end

-- Undo a wait, whatever has come of it.
local function cancel_acquire(lock, thread, mark)
  local owner, place = find(lock.o, SESSION, thread)
  if owner and owner.m == mark then
    owner.m = ''
    give_back(lock, place, false)
    grant(lock)
  else
    leave_lock(lock, thread, mark)
  end
  return { 0 }
end

local function release(lock, thread, number, since)
  check_lease(lock, number, since)
  local _, place = find(lock.o, SESSION, thread)
  if not place then
    if lock.k == 'RLock' then
      fail('NOTOWNER', 'cannot release a lock that this thread has not acquired')
    end
    if lock.o[1] then
      place = 1 -- as with threading.Lock, any thread may release it
    elseif lock.k ~= 'Semaphore' then
      fail('NOTOWNER', 'released too many times')
    end
  end
  if place then give_back(lock, place, false) else lock.f = lock.f + 1 end
  grant(lock)
  return {}
end
