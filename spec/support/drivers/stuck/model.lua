return dofile "drivers/edu/model.lua"
