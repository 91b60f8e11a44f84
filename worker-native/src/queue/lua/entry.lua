-- An unsettled job as it was handed in.
-- ARGV: id
local flow, sid = parse_job(call('GET', base .. 'job:' .. ARGV[1]) or '')
if not flow then return false end
if sid == '-' then return call('HGET', base .. 'later:' .. ARGV[1], 'b') end
local fields = entry_of(flow, sid)
return fields and field(fields, 'b') or false
