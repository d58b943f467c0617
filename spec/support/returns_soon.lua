--- For drivers of specs, as impatient.lua: a device that went away is looked for every 1.5 s.

require("luio.hotplug").RETURN = 1.5

return true
