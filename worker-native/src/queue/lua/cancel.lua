-- Ends an unsettled job with the result given.
-- ARGV: id, result, ms to keep it, results to keep, ms to keep one that is awaited
-- Gives {0} unknown | {1, 1 where it was running} | {2, its result}
local id, result = ARGV[1], ARGV[2]
local now, running = now_ms(), 0
local text = call('GET', base .. 'job:' .. id)
if not text then return {0} end
local flow, sid = parse_job(text)
if not flow then return {2, text} end
local meta, body
if sid == '-' then
  local later = call('HMGET', base .. 'later:' .. id, 'm', 'b')
  meta, body = later[1], later[2]
else
  local fields = entry_of(flow, sid)
  meta, body = fields and field(fields, 'm'), fields and field(fields, 'b')
end
local lane, _, size, callback = parse_meta(meta)
if not lane then return {0} end
if sid == '-' then
  call('ZREM', base .. 'delayed', id)
  call('DEL', base .. 'later:' .. id)
else
  local stream = base .. 'flow:' .. flow
  local owner = held(flow, sid)
  call('XDEL', stream, sid)
  call('XACK', stream, GROUP, sid)
  if call('HGET', base .. 'heads', flow) == sid then
    local head = after(flow, sid)
    if head then set_head(flow, head) else rests(flow) end
  end
  if owner and owner ~= NOBODY then
    running = 1
    count('running', lane, -1)
  end
end
-- As the job's JSON has it: within a text of it the quotes would be escaped. Its caller was the only one to read it.
local awaited = string.find(body or '', '"awaited":true', 1, true)
publish(id, flow, tonumber(size), result, awaited and ARGV[5] or ARGV[3], callback, now)
count('depth', lane, -1)
count('count', 'bytes', -tonumber(size))
count('count', 'settled', 1)
count('count', 'unrun', 1)
if not awaited then
  call('LPUSH', base .. 'results', id)
  call('LTRIM', base .. 'results', 0, tonumber(ARGV[4]) - 1)
end
tell({id}, now)
return {1, running}
