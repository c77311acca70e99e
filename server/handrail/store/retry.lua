-- Make a job due again, one attempt further.
-- KEYS: hooks hookdata   ARGV: job id  attempt it was claimed at (4 digits)  due  payload
-- A payload begins with its attempt; when another claimant has already moved it on, or finished it, nothing happens.
local payload = redis.call('HGET', KEYS[2], ARGV[1])
if not payload or string.sub(payload, 1, 4) ~= ARGV[2] then return 0 end
if not tonumber(ARGV[3]) then return redis.error_reply('REFUSED the due time of a job is not a number') end
redis.call('ZCARD', KEYS[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
return 1
