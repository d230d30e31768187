-- What stands behind every operation: `operation` is the one, `WRITES` tells what it does.

-- The answer of a request that was carried out already: its first reply was lost.
local function known_answer()
  local slot, number = string.match(REQUEST, '^(%d+):(%d+)$')
  local last = call('HGET', P .. 'rep:' .. OWNER, slot)
  if not last then return false end
  local done, answer = string.match(last, '^(%d+) (.*)$')
  done, number = tonumber(done), tonumber(number)
  if done < number then return false end
  if done > number then fail('STALE') end
  return true, answer ~= '' and cmsgpack.unpack(answer)
end

local function keep_answer(answer)
  local slot, number = string.match(REQUEST, '^(%d+):(%d+)$')
  local packed = answer and cmsgpack.pack(answer) or ''
  call('HSET', P .. 'rep:' .. OWNER, slot, number .. ' ' .. packed)
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
  if #records > 0 then call('RPUSH', P .. 'txlog', cmsgpack.pack(records)) end
  for number in pairs(changed) do call('SADD', P .. 'txd', number) end
  return answer
end

local function written()
  if REQUEST ~= '' then
    local known, answer = known_answer()
    if known then return answer end
  end
  enter(WRITES == 'writes')
  local answer
  if in_transaction and WRITES == 'writes' then
    answer = in_open_transaction()
  else
    answer = operation()
    for number, is_waited in pairs(changed) do
      if is_waited then wake(number) end
    end
    if any_garbage then collect(500) end
  end
  if REQUEST ~= '' then keep_answer(answer) end
  return answer
end

-- As it was before the transaction that another client has open.
local function view()
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

local function read()
  enter(false)
  if beside_transaction then
    local number = WRITES == 'reads' and ARGV[4]
    if not number or call('SISMEMBER', P .. 'txd', number) == 1 then return view() end
  end
  return operation()
end

if WRITES == 'reads' or WRITES == 'reads all' then return read() end
return written()
