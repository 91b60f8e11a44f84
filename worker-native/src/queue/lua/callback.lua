-- A callback went, or is to be tried again.
-- ARGV: id, when the job ended, note, ms until the next try or '', ms to keep the note
local outbox = base .. 'outbox:' .. ARGV[1]
-- That of another ending is not meant.
if call('HGET', outbox, 'at') ~= ARGV[2] then return 0 end
-- One that is done is not tried again, whatever somebody who was slow to try says.
if ARGV[4] ~= '' and not call('ZSCORE', base .. 'outbox', ARGV[1]) then return 0 end
if ARGV[4] == '' then
  call('ZREM', base .. 'outbox', ARGV[1])
  call('HSET', outbox, 'note', ARGV[3])
  call('PEXPIRE', outbox, ARGV[5])
else
  call('ZADD', base .. 'outbox', now_ms() + tonumber(ARGV[4]), ARGV[1])
  call('HSET', outbox, 'note', ARGV[3])
end
return 1
