-- Ends an unsettled job with the result given.
-- ARGV: id, result, ms to keep it, results to keep
-- Gives {0} unknown | {1, 1 where it was running} | {2, its result}
local id, result = ARGV[1], ARGV[2]
local job, now = base .. 'job:' .. id, now_ms()
local kind = call('TYPE', job).ok
if kind == 'string' then return {2, call('GET', job)} end
if kind ~= 'hash' then return {0} end
local f = call('HMGET', job, 'flow', 'sid', 'lane', 'size', 'callback', 'state')
local flow, running = f[1], 0
if f[6] == 'retrying' then
  call('ZREM', base .. 'delayed', id)
else
  local stream = base .. 'flow:' .. flow
  local owner = held(flow, f[2])
  if call('XDEL', stream, f[2]) == 0 then return {0} end
  if call('XACK', stream, GROUP, f[2]) == 1 then count('running', f[3], -1) end
  if owner and owner ~= NOBODY then running = 1 end
end
publish(id, flow, tonumber(f[4]), result, ARGV[3], f[5] or '', now)
count('depth', f[3], -1)
count('count', 'bytes', -tonumber(f[4]))
count('count', 'settled', 1)
call('LPUSH', base .. 'results', id)
call('LTRIM', base .. 'results', 0, tonumber(ARGV[4]) - 1)
tell({id}, now)
return {1, running}
