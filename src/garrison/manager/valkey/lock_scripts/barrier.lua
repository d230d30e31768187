-- Barriers: a point that a number of parties pass together.
--
--   filling --all are here--> passed
--      |  `--one can act----> acting --acted--> passed
--      `-- a timeout, the end of a lease, abort --> broken, until reset
--
--   z parties, b whether it is broken (1)
--   q those that have arrived { s, t, m, a whether it can act (1) }
--   h those that pass once the action is done { s, t, m, i index }
--   o the one that runs the action, as a list of none or one
-- An answer is: index, whether this party runs the action; index -1: broken.

local function break_all(barrier)
  local all = {}
  for _, list in ipairs({ 'q', 'h' }) do
    for _, each in ipairs(barrier[list]) do all[#all + 1] = each end
    barrier[list] = {}
  end
  barrier.o = {}
  for _, each in ipairs(all) do answer(each, -1, 0) end
end

local function abort(barrier)
  barrier.b = 1
  break_all(barrier)
  return {}
end

local function begin_round(barrier)
  if barrier.o[1] or #barrier.q < barrier.z then return end
  local come, actor = {}, nil
  for index = 0, barrier.z - 1 do
    local party = table.remove(barrier.q, 1)
    party.i = index
    if party.a == 1 and not actor then actor = party else come[#come + 1] = party end
  end
  if not actor then
    for _, each in ipairs(come) do answer(each, each.i, 0) end
    return
  end
  barrier.o, barrier.h = { actor }, come
  answer(actor, actor.i, 1)
end

local function known_place(thread, mark)
  local known = call('LINDEX', P .. 'wake:' .. SESSION .. ':' .. thread, 0)
  local place, acts = string.match(known or '', '^' .. mark .. ' (%-?%d+) (%d)$')
  return place and { tonumber(place), tonumber(acts) }
end

local function wait_at_barrier(barrier, thread, mark, can_act, is_first)
  local known = known_place(thread, mark)
  if known then return known end
  if not (find(barrier.q, SESSION, thread, mark) or find(barrier.h, SESSION, thread, mark)) then
    -- One that is looked for again, and is not there, was broken together with the barrier.
    if barrier.b == 1 or not is_first then return { -1, 0 } end
    call('DEL', P .. 'wake:' .. SESSION .. ':' .. thread)
    barrier.q[#barrier.q + 1] = { s = SESSION, t = thread, m = mark, a = can_act }
    begin_round(barrier)
  end
  return reply or waiting(barrier.q, barrier.h, barrier.o)
end

local function leave_barrier(barrier, thread, mark)
  local known = known_place(thread, mark)
  if known then return known end
  if find(barrier.q, SESSION, thread, mark) or find(barrier.h, SESSION, thread, mark) then
    abort(barrier)
  end
  return { -1, 0 }
end

local function acted(barrier, thread)
  if not barrier.o[1] or not is_of(barrier.o[1], SESSION, thread) then return { 0 } end
  local behind = barrier.h
  barrier.o, barrier.h = {}, {}
  for _, each in ipairs(behind) do answer(each, each.i, 0) end
  begin_round(barrier)
  return { 1 }
end

local function prune_barrier(barrier)
  local is_dead = false
  for _, list in ipairs({ barrier.q, barrier.h, barrier.o }) do
    for _, each in ipairs(list) do is_dead = is_dead or not is_alive(each.s) end
  end
  if is_dead then abort(barrier) end
end
