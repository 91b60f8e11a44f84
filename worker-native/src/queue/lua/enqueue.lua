-- Stores one job and counts it, or refuses it when the task's backlog is full.
-- KEYS: stream, job, depth   ARGV: entry json, features, lane, max depth, job id
local depth = redis.call('HGETALL', KEYS[3])
local total = 0
for i = 2, #depth, 2 do total = total + math.max(0, tonumber(depth[i])) end
if total >= tonumber(ARGV[4]) then return {0, total, {}} end
-- Id and lane stand beside the json: a consumer that cannot read it can still settle the job.
redis.call('XADD', KEYS[1], '*', 'id', ARGV[5], 'lane', ARGV[3], 'job', ARGV[1], 'features', ARGV[2])
-- No time to live while the job is queued: a result must find its state.
redis.call('HSET', KEYS[2], 'state', 'queued')
redis.call('HINCRBY', KEYS[3], ARGV[3], 1)
return {1, total + 1, redis.call('HGETALL', KEYS[3])}
