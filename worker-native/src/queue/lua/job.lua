-- What is known of a job.
-- ARGV: id
-- Gives {} | {result, note of its callback} | {state, starts, ms since it was accepted, failures}
local job = base .. 'job:' .. ARGV[1]
local kind = call('TYPE', job).ok
if kind == 'string' then
  return {call('GET', job), call('HGET', base .. 'outbox:' .. ARGV[1], 'note')}
end
if kind ~= 'hash' then return {} end
local f = call('HMGET', job, 'flow', 'sid', 'state', 'n', 'at', 'errors')
local state, starts = f[3], tonumber(f[4] or 0)
if not state then
  local owner, claims = held(f[1], f[2])
  if not entry_of(f[1], f[2]) then
    state = 'lost'
  elseif owner and owner ~= NOBODY then
    state, starts = 'running', starts + claims
  else
    state, starts = 'queued', starts + claims
  end
end
return {state, starts, now_ms() - tonumber(f[5]), f[6] or '[]'}
