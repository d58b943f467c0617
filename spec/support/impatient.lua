--- For drivers of specs: a new version has 0.2 s to come back, not 5. A driver requires it, by a path to libraries: what it changes in
--- luio by itself it would change for itself.

require("luio.loop.watchdog").LIMIT = 0.2

return true
