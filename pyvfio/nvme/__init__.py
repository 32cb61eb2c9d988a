"""NVM Express: the formats and numbers that a controller and its driver share.

Everything is little-endian.  The text is NVM Express Base Specification 1.4; docstrings name its sections.

=============  ===============================================================================
`registers`    what is in BAR 0: properties, their fields, doorbells (chapter 3)
`status`       status codes (4.6.1)
`commands`     submission and completion queue entries, opcodes (4.2, 4.6, chapters 5 and 6)
`features`     features, and asynchronous events (5.2, 5.21)
`identity`     Identify: controller, namespace, lists (5.15)
`logs`         log pages: errors, SMART / health, firmware slots (5.14)
=============  ===============================================================================
"""
