-- What is known of a job.
-- ARGV: id, ms to keep a result
-- Gives {} | {result, note of its callback} | {state, starts, ms since it was accepted, failures}
local text = call('GET', base .. 'job:' .. ARGV[1])
if not text then return {} end
local flow, sid = parse_job(text)
if not flow then return {text, call('HGET', base .. 'outbox:' .. ARGV[1], 'note')} end
if sid == '-' then
  local later = call('HMGET', base .. 'later:' .. ARGV[1], 'm', 'e')
  local _, _, _, _, starts, at = parse_meta(later[1])
  return {'retrying', tonumber(starts or 0), now_ms() - tonumber(at or 0), later[2] or '[]'}
end
local fields = entry_of(flow, sid)
local _, _, _, _, starts, at = parse_meta(fields and field(fields, 'm'))
if not starts then
  -- Told for as long as a result would be; a replica cannot note that.
  redis.pcall('PEXPIRE', base .. 'job:' .. ARGV[1], ARGV[2], 'NX')
  return {'lost', 0, 0, '[]'}
end
local owner, claims = held(flow, sid)
local state = owner and owner ~= NOBODY and 'running' or 'queued'
return {state, starts + claims, now_ms() - tonumber(at), field(fields, 'e') or '[]'}
