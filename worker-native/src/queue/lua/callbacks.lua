-- Takes callbacks that are due; they are due again after the lease.
-- ARGV: limit, lease in ms
-- Gives now, {{id, when the job ended, url, tries before this one, result or ''} ...}
local now, taken = now_ms(), {}
-- When memory is full a script may write only after a write that is allowed then: this one, of nothing.
call('ZREM', base .. 'outbox', '')
for _, id in ipairs(call('ZRANGEBYSCORE', base .. 'outbox', '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local f = call('HMGET', base .. 'outbox:' .. id, 'url', 'attempts', 'at')
  if f[1] then
    call('ZADD', base .. 'outbox', now + tonumber(ARGV[2]), id)
    call('HINCRBY', base .. 'outbox:' .. id, 'attempts', 1)
    local result = call('GET', base .. 'job:' .. id)
    if not result or parse_job(result) then result = '' end
    taken[#taken + 1] = {id, tonumber(f[3]), f[1], tonumber(f[2]), result}
  else
    call('ZREM', base .. 'outbox', id)
  end
end
return {now, taken}
