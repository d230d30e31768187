-- Events: b whether it is set (1), q waiters { s, t, m }.

local function wait_for_event(event, thread, mark)
  local key = P .. 'wake:' .. SESSION .. ':' .. thread
  local known = call('LINDEX', key, 0)
  if known == mark .. ' 1' then return { 1 } end -- it was set, and may be clear again
  if event.b == 1 then return { 1 } end
  if not find(event.q, SESSION, thread, mark) then
    call('DEL', key)
    event.q[#event.q + 1] = { s = SESSION, t = thread, m = mark }
  end
  return waiting({})
end

local function leave_event(event, thread, mark)
  local _, place = find(event.q, SESSION, thread, mark)
  if place then
    table.remove(event.q, place)
    return { 0 }
  end
  local known = call('LINDEX', P .. 'wake:' .. SESSION .. ':' .. thread, 0)
  return { known == mark .. ' 1' and 1 or 0 }
end

local function set_event(event)
  event.b = 1
  for _, each in ipairs(filter(event.q, function() return false end)) do answer(each, 1) end
  return {}
end
