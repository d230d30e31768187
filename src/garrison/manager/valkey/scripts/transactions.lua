-- The writer's lease: one transaction at a time changes a store. Its fence is a number that only grows.

--- begin: always fully
-- Lease. Whoever comes next undoes what a lost writer has left behind.
if call('EXISTS', P .. 'tx') == 1 then fail(held()) end
reap_expired()
local fence = next_number('fence')
call('SET', P .. 'tx', fence .. ' ' .. OWNER .. ' ' .. (now() + ARGV[4]))
renew(ARGV[4])
return fence

--- commit: always fully
if not in_transaction then fail('LOST') end
local dirty = call('SMEMBERS', P .. 'txd')
leave_transaction()
for _, number in ipairs(dirty) do
  if call('HEXISTS', P .. 'h:' .. number, 'w') == 1 then wake(number) end
end
collect(500)

--- abort: always fully
if not in_transaction then fail('LOST') end
roll_back()
