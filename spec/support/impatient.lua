--- For drivers of specs: a new version has 0.2 s to come back, not 5. A driver requires it, by a path to libraries, because a driver's own
--- changes to luio would reach only the driver.

require("luio.loop.watchdog").LIMIT = 0.2

return true
