--- Which builds of LuaJIT compile which code wrongly: data for luio.compiler. README.md has the whole survey, with the faults
--- that are not guarded against, and the reasons.
---
--- Each entry names the commit that mends the fault in LuaJIT's branch v2.1 and the time from which on builds have it. A rolling
--- release's version is such a time ("LuaJIT 2.1.1703358377"); all "2.1.0-beta3" come before the first of them (August 2023), and
--- do not contain their commit, so they are taken to have all faults.

---@class luio.CompilerFault
---@field name string      as luio.compiler.watch knows it
---@field commit string    that mends it
---@field mended integer   Unix time: builds from then on are healthy
---@field arch? string     only there (jit.arch)

---@type luio.CompilerFault[]
return {
  -- pairs() and next(): a pointer cut in half (x64), a loop that is left in the middle, keys taken for values; the last of ten commits
  { name = "traversal", commit = "119fd1fa", mended = 1691888545 },
  -- a table made from a template, in a loop: the value comes from the template though it is another table by now (#994)
  { name = "template", commit = "c42c62e7", mended = 1703355357 },
  -- the same template with number keys, after the table was rehashed (#980)
  { name = "rehash", commit = "c7db8255", mended = 1681644598 },
  -- #t after a store to the same table by another name
  { name = "length", commit = "4ef96cff", mended = 1653041785 },
  -- `local a, b = ...` takes its neighbours
  { name = "vararg", commit = "6bda30d8", mended = 1657657286 },
  -- bit.rshift, arshift, rol, ror of 64-bit values that were masked by a constant (#1079)
  { name = "shift", commit = "9e043724", mended = 1694466036 },
  -- an array element used after its table got a new key is read from memory that was freed (#1117)
  { name = "fusion", commit = "43d0a191", mended = 1702215228, arch = "x64" },
  -- a new key that is assigned twice is in the table twice (#1128)
  { name = "twice", commit = "1761fd2e", mended = 1702215228 },
  -- a table with a metamethod's name as a key gets a metatable that is none (#1052)
  { name = "metatable", commit = "0ef51b49", mended = 1693254276 },
  -- C functions with variable arguments, in a loop: an argument of another iteration (#1244)
  { name = "variadic", commit = "3bdc6498", mended = 1723676400 },
  -- a bounds check that is dropped for an array made in the loop (#1194)
  { name = "bounds", commit = "7369eff6", mended = 1723676400 },
  -- an integer product compared with 0 (#1376)
  { name = "product", commit = "c92d0cb1", mended = 1753364495, arch = "x64" },
  -- 64-bit bit.band, bor, bxor of a 32-bit value that was extended (arm64)
  { name = "extension", commit = "90742d91", mended = 1694286000, arch = "arm64" },
  -- neighbours in memory that are loaded or stored as a pair: at a negative offset an instruction that is none, at one that is not
  -- aligned the wrong place (arm64)
  { name = "pairing", commit = "b8c6ccd5", mended = 1694286000, arch = "arm64" },
  -- uint32_t values above 0x7fffffff cast to int64_t are negative in arithmetic (#1492)
  { name = "sign", commit = "e4d80516", mended = 1785005726 },
}
