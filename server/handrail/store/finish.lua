-- Remove a job for good.   KEYS: hooks hookdata   ARGV: job id
redis.call('ZCARD', KEYS[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return redis.call('ZREM', KEYS[1], ARGV[1])
