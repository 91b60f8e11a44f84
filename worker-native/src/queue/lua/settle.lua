-- Stores a job's first result, acknowledges its entry and takes it off the count, in one step.
-- KEYS: stream, job, depth, results
-- ARGV: group, stream id, lane, state, result json, seconds to keep it, results to keep
local acked = redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
-- Two consumers may end the same job; only the one whose entry was still pending counts it off.
if acked == 1 then redis.call('HINCRBY', KEYS[3], ARGV[3], -1) end
local first = 0
if redis.call('HEXISTS', KEYS[2], 'result') == 0 then
  first = 1
  redis.call('HSET', KEYS[2], 'state', ARGV[4], 'result', ARGV[5])
  redis.call('EXPIRE', KEYS[2], ARGV[6])
  redis.call('LPUSH', KEYS[4], ARGV[5])
  redis.call('LTRIM', KEYS[4], 0, ARGV[7] - 1)
end
return {first, redis.call('HGETALL', KEYS[3])}
