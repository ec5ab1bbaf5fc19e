-- What the service may read of the index for a call that is vouched for, read by nginx for each: the
-- same commands for the same keys in one pipeline, the stamp last, and what they say as a small JSON.
-- No rules.
-- The module `plan` is written by benchmarks/peers/nginx.py: what the service has in memory.

local cjson = require "cjson.safe"
local redis = require "nginx.redis"
local plan = require "plan"

local char, floor, format, match = string.char, math.floor, string.format, string.match
local concat, null = table.concat, ngx.null

local BLOCK, SPAN, WIDTH, SHARDS = plan.block, plan.span, plan.width, plan.shards
local TAGS = {}
for shard = 0, SHARDS - 1 do TAGS[shard] = format("{%02x}", shard) end

-- The fields of the stamp are the same for every call that looks at the same lists.
local LOOKS = plan.looks

local function pack_int(value)
    local bytes = ""
    repeat
        bytes = char(value % 256) .. bytes
        value = floor(value / 256)
    until value == 0
    return bytes
end

-- Whether a stretch of a sparse block names the number at `place` in it: gaps of seven bits a byte.
local function names(stretch, place)
    local at, gap, scale = 0, 0, 1
    for n = 1, #stretch do
        local byte = stretch:byte(n)
        gap = gap + byte % 128 * scale
        if byte < 128 then
            at = at + gap
            if at >= place then return at == place end
            gap, scale = 0, 1
        else
            scale = scale * 128
        end
    end
    return false
end

local function bool(value) return value and "true" or "false" end

local function say(body)
    ngx.header.content_type = "application/json"
    ngx.header.content_length = #body
    ngx.print(body)
end

local _M = {}

local function numbers()
    if ngx.req.get_method() == "GET" then
        local asked = ngx.req.get_uri_args()
        return asked.calling, asked.called
    end
    ngx.req.read_body()
    local asked = cjson.decode(ngx.req.get_body_data() or "")
    if not asked then return nil, nil end
    return asked.calling, asked.called
end

function _M.answer()
    local from, to = numbers()
    local called = tonumber(match(to or "", "^%+(%d+)$"))
    if not called then
        -- A service code or a word: nothing to look up.
        return say('{"known":false}')
    end
    local calling = tonumber(match(from or "", "^%+?(%d+)$")) or 0
    local entity = plan.entities[calling]
    local looks = entity and LOOKS[entity.category] or LOOKS[""]

    local block = floor(called / BLOCK)
    local tag = TAGS[block % SHARDS]
    local offset = called % BLOCK

    local server = redis:new()
    server:set_timeout(1000)
    local ok = server:connect(plan.socket)
    if not ok then return ngx.exit(503) end
    server:init_pipeline()
    for at = 1, #looks do
        local look = looks[at]
        if look.width == 0 then
            server:getbit(tag .. look.key .. format("%d", block), offset)
        else
            server:hget(tag .. look.key .. format("%d", floor(called / SPAN)),
                char(floor(called % SPAN / look.width)))
        end
    end
    local place = called % WIDTH
    local low = char(floor(place / 256), place % 256)
    local high = entity and low .. pack_int(entity.id) or low
    server:hmget(tag .. ":b:" .. format("%d", floor(called / WIDTH)), low, high)
    server:hget(tag .. ":x:" .. format("%d", called), pack_int(calling))
    server:hmget(tag .. ":s", unpack(looks.stamp))
    local replies = server:commit_pipeline()
    if not replies then return ngx.exit(503) end
    server:set_keepalive(60000, 1024)

    local count = #looks
    local listed = false
    for at = 1, count do
        local width, found = looks[at].width, replies[at]
        if width == 0 then
            listed = listed or found == 1
        elseif found ~= null then
            listed = listed or names(found, called % width)
        end
    end
    local bucket, stamp = replies[count + 1], replies[count + 3]
    say(concat {
        '{"known":', bool(stamp[1] == plan.epoch),
        ',"listed":', bool(listed),
        ',"preferences":', bool(bucket[1] ~= null),
        ',"consent":', bool(entity and bucket[2] ~= null),
        ',"personal":', bool(replies[count + 2] ~= null),
        '}',
    })
end

return _M
