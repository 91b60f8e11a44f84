-- Ends an unsettled job with the result given.
-- ARGV: id, result, ms to keep it, results to keep
-- Gives {0} unknown | {1, 1 where it was running} | {2, its result}
local id, result = ARGV[1], ARGV[2]
local now, running = now_ms(), 0
local text = call('GET', base .. 'job:' .. id)
if not text then return {0} end
local flow, sid, meta = parse_job(text)
if not flow then return {2, text} end
local _, lane, _, _, size, _, callback = parse_meta(meta)
if sid == '-' then
  call('ZREM', base .. 'delayed', id)
  call('DEL', base .. 'later:' .. id)
else
  local stream = base .. 'flow:' .. flow
  local owner = held(flow, sid)
  if call('XDEL', stream, sid) == 0 then return {0} end
  if call('XACK', stream, GROUP, sid) == 1 then count('running', lane, -1) end
  if owner and owner ~= NOBODY then running = 1 end
end
publish(id, flow, tonumber(size), result, ARGV[3], callback, now)
count('depth', lane, -1)
count('count', 'bytes', -tonumber(size))
count('count', 'settled', 1)
call('LPUSH', base .. 'results', id)
call('LTRIM', base .. 'results', 0, tonumber(ARGV[4]) - 1)
tell({id}, now)
return {1, running}
