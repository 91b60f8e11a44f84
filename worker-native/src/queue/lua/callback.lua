-- A callback went, or is to be tried again.
-- ARGV: id, note, ms until the next try or '', ms to keep the note
local outbox = base .. 'outbox:' .. ARGV[1]
if call('EXISTS', outbox) == 0 then return 0 end
-- One that is done is not tried again, whatever somebody who was slow to try says.
if ARGV[3] ~= '' and not call('ZSCORE', base .. 'outbox', ARGV[1]) then return 0 end
if ARGV[3] == '' then
  call('ZREM', base .. 'outbox', ARGV[1])
  call('HSET', outbox, 'note', ARGV[2])
  call('PEXPIRE', outbox, ARGV[4])
else
  call('ZADD', base .. 'outbox', now_ms() + tonumber(ARGV[3]), ARGV[1])
  call('HSET', outbox, 'note', ARGV[2])
end
return 1
