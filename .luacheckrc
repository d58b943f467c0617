std = "luajit"
max_line_length = 140
exclude_files = { "build" }
files["spec"] = { std = "+busted", max_line_length = 170 }
-- Driver and model functions share one signature, whether they use all of it or not.
files["drivers"] = { unused_args = false }
