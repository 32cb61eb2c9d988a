"""An NVM Express controller.  Formats and numbers are in `pyvfio.nvme`.

::

    registers, doorbells    controller
    queues in memory        queues     entries fetched and posted, who has room
    data in memory          prp        where the data of a command is
    commands                admin, admin_queues, admin_facts, admin_settings, admin_events; nvm
    what is stored          storage    memory or a file, with an order of blocks: `Namespace`

A command ends with `CommandError` or a result; nothing that a driver puts into memory raises anything else.
"""
