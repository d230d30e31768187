-- How an operation is run: `operation` is the one, `WRITES` tells what it does. `quickly` is for a store
-- where no transaction is open, and says so if one is; `fully` is for all others.

-- Carry a request out unless that was done already, and only its reply was lost.
local function once(carry_out)
  if REQUEST == '' then return carry_out() end
  local slot, number = string.match(REQUEST, '(%d+):(%d+)')
  local replies = P .. 'rep:' .. OWNER
  local last = call('HGET', replies, slot)
  if last then
    local done = tonumber(string.match(last, '%d+'))
    if done > tonumber(number) then fail('STALE') end
    if done == tonumber(number) then
      local packed = sub(last, #number + 2)
      return packed ~= '' and cmsgpack.unpack(packed)
    end
  end
  local answer = carry_out()
  call('HSET', replies, slot, number .. ' ' .. (answer and cmsgpack.pack(answer) or ''))
  return answer
end

-- Raise an error again that pcall has caught; before Valkey 8 that is a text.
local function raise(caught)
  error({ err = type(caught) == 'table' and caught.err or caught })
end

-- Note what undoes this script's writes; undo them if it has failed in the middle.
local function in_open_transaction()
  log = {}
  local fine, answer = pcall(operation)
  local records = log
  if not fine then
    log = nil
    undo(records)
    raise(answer)
  end
  if #records > 0 then
    call('RPUSH', P .. 'txlog', cmsgpack.pack(records))
    call('INCRBY', P .. 'txn', #records)
  end
  for number in pairs(changed) do call('SADD', P .. 'txd', number) end
  return answer
end

local function on_containers()
  local answer = operation()
  for number, is_waited in pairs(changed) do
    if is_waited then wake(number) end
  end
  if any_garbage then collect(500) end
  return answer
end

local function in_order()
  enter(WRITES == 'writes')
  if in_transaction and WRITES == 'writes' then return in_open_transaction() end
  return on_containers()
end

-- As it was before the transaction that another client has open. If that has done much, so that the
-- server would be held up, the reader waits for its end; if it has waited already, it reads now.
local function view()
  if REQUEST ~= 'now' and tonumber(call('GET', P .. 'txn') or 0) > VIEW_MOST then fail(held()) end
  call('DEL', P .. 'none') -- so that a full server does not refuse the rest
  log = {}
  undo(transaction_log())
  local redo = log
  log = nil
  local fine, answer = pcall(operation)
  undo(redo)
  if not fine then raise(answer) end
  return answer
end

-- Whether the open transaction has changed what this script reads, as far as that is known.
local function reads_changes()
  local number = WRITES == 'reads names' and 'names' or ARGV[4]
  if call('SISMEMBER', P .. 'txd', number) == 1 then return true end
  return WRITES == 'reads all' and (call('HGET', P .. 'h:' .. number, 'L') or '0') ~= '0'
end

local function read()
  enter(false)
  if beside_transaction and reads_changes() then return view() end
  return operation()
end

local function fully()
  if sub(WRITES, 1, 5) == 'reads' then return read() end
  return once(in_order)
end

local function alone()
  if FENCE ~= '' or call('EXISTS', P .. 'tx') == 1 then fail('SLOW') end
end

local function quick_read()
  alone()
  return operation()
end

local function quickly_on_containers()
  local answer = operation()
  for number, is_waited in pairs(changed) do
    if is_waited then wake(number) end
  end
  return answer
end

local function quick_write()
  alone()
  return once(quickly_on_containers)
end
