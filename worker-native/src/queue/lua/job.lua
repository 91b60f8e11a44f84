-- What is known of a job.
-- ARGV: id
-- Gives {} | {result, note of its callback} | {state, starts, ms since it was accepted, failures}
local text = call('GET', base .. 'job:' .. ARGV[1])
if not text then return {} end
local flow, sid, meta = parse_job(text)
if not flow then return {text, call('HGET', base .. 'outbox:' .. ARGV[1], 'note')} end
local _, _, at, _, _, starts = parse_meta(meta)
local state, errors = 'queued', nil
if sid == '-' then
  state, errors = 'retrying', call('HGET', base .. 'later:' .. ARGV[1], 'e')
else
  local owner, claims = held(flow, sid)
  local fields = entry_of(flow, sid)
  starts = starts + claims
  if not fields then
    state = 'lost'
  else
    errors = field(fields, 'e')
    if owner and owner ~= NOBODY then state = 'running' end
  end
end
return {state, tonumber(starts), now_ms() - tonumber(at), errors or '[]'}
