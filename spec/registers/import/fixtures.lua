--- SVD files of our own, with every construct: what the specs import, and what spec/fuzz/svd breaks.

local M = {}

M.HEAD = [[<?xml version="1.0" encoding="utf-8"?>
<device schemaVersion="1.3"><name>CHIP</name><addressUnitBits>8</addressUnitBits><width>32</width>
<size>32</size><access>read-write</access><resetValue>0x10</resetValue><peripherals>]]
M.TAIL = "</peripherals></device>"

--- A peripheral's XML.
---@param registers string
---@param name? string
---@param more? string
function M.peripheral(registers, name, more)
  return ("<peripheral><name>%s</name><baseAddress>0x1000</baseAddress>%s<registers>%s</registers></peripheral>"):format(
    name or "P", more or "", registers)
end

--- A register's XML; `from` is what it derives from.
function M.register(name, offset, more, from)
  return ("<register%s><name>%s</name><addressOffset>%s</addressOffset>%s</register>"):format(
    from and (' derivedFrom="%s"'):format(from) or "", name, offset, more or "")
end

--- A register with fields: "NAME high:low", or { "NAME high:low", more }.
function M.fields(name, offset, list, more)
  local xml = {}
  for _, field in ipairs(list) do
    local spec, extra = field, ""
    if type(field) == "table" then spec, extra = field[1], field[2] end
    local called, range = spec:match "^(%S+) (%S+)$"
    table.insert(xml, ("<field><name>%s</name><bitRange>[%s]</bitRange>%s</field>"):format(called, range, extra))
  end
  return M.register(name, offset, (more or "") .. "<fields>" .. table.concat(xml) .. "</fields>")
end

function M.dim(count, increment, index)
  return ("<dim>%s</dim><dimIncrement>%s</dimIncrement>%s"):format(count, increment,
    index and "<dimIndex>" .. index .. "</dimIndex>" or "")
end

--- Everything at once.
M.everything = [[<?xml version="1.0"?>
<!-- a comment with <readAction>clear</readAction> in it -->
<device schemaVersion="1.3"><vendor>Nobody</vendor><name>CHIP</name><version>1.2</version>
<description>A chip that is not</description><licenseText>Free.\nAs in air.</licenseText>
<cpu><name>other</name><endian>little</endian></cpu><addressUnitBits>8</addressUnitBits><width>32</width>
<size>32</size><access>read-write</access><resetValue>0</resetValue><resetMask>0xffffffff</resetMask><peripherals>
<peripheral derivedFrom="UART0"><name>UART1</name><baseAddress>0x40002000</baseAddress>
<interrupt><name>UART1</name><value>4</value></interrupt></peripheral>
<peripheral><name>UART0</name><version>2</version><description>A UART, "quoted" \ and
  on two lines -- with dashes</description><groupName>UART</groupName><prependToName>U_</prependToName>
<alternatePeripheral>UART9</alternatePeripheral><baseAddress>0x40001000</baseAddress><protection>s</protection>
<addressBlock><offset>0</offset><size>0x1000</size><usage>registers</usage></addressBlock>
<interrupt><name>UART0</name><description>all of it</description><value>3</value></interrupt><registers>
<register><name>DATA</name><displayName>data</displayName><addressOffset>0</addressOffset><access>read-only</access>
<readAction>modifyExternal</readAction></register>
<register><name>DATA8</name><alternateRegister>DATA</alternateRegister><addressOffset>0</addressOffset><size>8</size></register>
<register><name>DATA_HIGH</name><addressOffset>2</addressOffset><size>16</size></register>
<register><name>STATUS</name><description>What it does now</description><addressOffset>0x4</addressOffset>
<resetMask>0xf</resetMask><fields>
<field><name>BUSY</name><bitRange>[0:0]</bitRange><access>read-only</access><readAction>set</readAction></field>
<field><name>DONE</name><lsb>1</lsb><msb>1</msb><modifiedWriteValues>oneToClear</modifiedWriteValues></field>
<field><name>MODE</name><bitOffset>4</bitOffset><bitWidth>2</bitWidth><writeConstraint><range><minimum>0</minimum>
<maximum>2</maximum></range></writeConstraint><enumeratedValues><name>M</name><usage>read</usage>
<enumeratedValue><name>SLOW</name><description>not fast</description><value>0</value></enumeratedValue>
<enumeratedValue><name>FAST</name><value>#1x</value></enumeratedValue>
<enumeratedValue><name>OTHER</name><isDefault>true</isDefault></enumeratedValue></enumeratedValues>
<enumeratedValues><usage>write</usage><enumeratedValue><name>GO</name><value>1</value></enumeratedValue></enumeratedValues></field>
<field derivedFrom="MODE"><name>MODE2</name><bitRange>[7:6]</bitRange></field>
<field><name>third</name><bitRange>[9:8]</bitRange><enumeratedValues derivedFrom="STATUS.MODE.M"/></field>
<field><dim>4</dim><dimIncrement>1</dimIncrement><name>PIN%s</name><bitRange>[11:11]</bitRange></field></fields></register>
<register><dim>4</dim><dimIncrement>4</dimIncrement><dimIndex>A-D</dimIndex><name>CH%sX</name><addressOffset>0x10</addressOffset></register>
<register derivedFrom="UART0.STATUS"><name>COPY</name><addressOffset>0x30</addressOffset></register>
<register><name>ODD</name><size>24</size><addressOffset>0x38</addressOffset><fields><field><name>A</name><bitRange>[3:0]</bitRange></field>
<field><name>B</name><bitRange>[5:2]</bitRange></field><field><name>C</name><bitRange>[40:30]</bitRange></field></fields></register>
<cluster><dim>2</dim><dimIncrement>0x20</dimIncrement><name>RING[%s]</name><description>Rings</description><addressOffset>0x40</addressOffset>
<register><name>HEAD</name><addressOffset>0</addressOffset><size>64</size><resetValue>0xffffffffffffffff</resetValue></register>
<cluster><name>INNER</name><addressOffset>8</addressOffset><register><name>end</name><addressOffset>0</addressOffset>
<access>writeOnce</access></register></cluster></cluster>
<cluster derivedFrom="RING[%s]"><name>EXTRA</name><addressOffset>0x100</addressOffset></cluster>
</registers></peripheral>
<peripheral><dim>3</dim><dimIncrement>0x100</dimIncrement><name>GPIO%s</name><baseAddress>0x40003000</baseAddress><size>16</size>
<registers><register derivedFrom="UART0.STATUS"><name>STATUS</name><addressOffset>0</addressOffset></register>
</registers></peripheral>
</peripherals><vendorExtensions><anything>1</anything></vendorExtensions></device>]]

return M
