--- `dev.driver`: the driver of a device, in its running version (luio.reload.live).
---
--- Scripts and the prompt hold it across reloads. So it is not the driver's table, which a reload replaces, but a proxy that
--- reads the running version's table each time. A function that is called with the device gets that version's view of it
--- instead.

local M = {}

--- Makes it.
---@param live luio.Live
---@return table
function M.new(live)
  return setmetatable({}, {
    __index = function(t, key)
      local value = live.version.driver[key]
      if type(value) ~= "function" then return value end
      local function call(first, ...)
        local driver = live.version.driver
        local fn = driver[key]
        if type(fn) ~= "function" then error(("driver %s has no function %s any more"):format(driver.name, key), 2) end
        if first == live.dev then first = live.version.view end
        return fn(first, ...)
      end
      rawset(t, key, call)
      return call
    end,
    __newindex = function(_, key) error(("dev.driver.%s: a driver is changed in its file"):format(tostring(key)), 2) end,
    __tostring = function() return "driver " .. live.version.driver.name end,
  })
end

--- Puts the functions of the version at work into the table itself, for pairs() and completion, and takes out those
--- that it does not have any more.
---@param live luio.Live
function M.name_functions(live)
  local named = live.dev.driver
  if not named then return end
  for key in pairs(named) do
    if type(live.version.driver[key]) ~= "function" then rawset(named, key, nil) end
  end
  for key, value in pairs(live.version.driver) do
    if type(value) == "function" then local _ = named[key] end -- __index puts it in
  end
end

return M
