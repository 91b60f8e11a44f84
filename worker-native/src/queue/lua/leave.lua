-- Takes a consumer out of every group where no jobs are claimed under its name.
-- ARGV: consumer
for _, flow in ipairs(call('SMEMBERS', base .. 'flows')) do
  local stream = base .. 'flow:' .. flow
  local pending = redis.pcall('XPENDING', stream, GROUP, '-', '+', 1, ARGV[1])
  if not pending.err and #pending == 0 then redis.pcall('XGROUP', 'DELCONSUMER', stream, GROUP, ARGV[1]) end
end
