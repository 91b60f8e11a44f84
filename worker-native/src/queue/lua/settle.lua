-- Stores a job's first result, acknowledges its entry and takes it off the count, in one step.
-- KEYS: stream, job, depth, results
-- ARGV: group, stream id, lane, state, result json, seconds to keep it, results to keep
-- The entry is in the stream exactly as long as its job is unsettled: who deletes it is first, also
-- when the group was lost or the first result has expired. XDEL comes first because it is allowed
-- when memory is full, and what follows a script's first write then is as well.
local first = redis.call('XDEL', KEYS[1], ARGV[2])
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
if first == 1 then
  redis.call('HSET', KEYS[2], 'state', ARGV[4], 'result', ARGV[5])
  redis.call('EXPIRE', KEYS[2], ARGV[6])
  -- The job has its result: what is wrong with list or count must not undo that.
  redis.pcall('LPUSH', KEYS[4], ARGV[5])
  redis.pcall('LTRIM', KEYS[4], 0, ARGV[7] - 1)
  if ARGV[3] ~= '' then redis.pcall('HINCRBY', KEYS[3], ARGV[3], -1) end
end
return {first, redis.call('HGETALL', KEYS[3])}
