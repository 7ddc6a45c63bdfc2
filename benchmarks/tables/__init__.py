"""Published measurements in one column format: read, understood, and turned into work to predict.

A row says what ran (`model`, `params`, shapes), where (`gpu`, degrees), in which numbers and in
which software (`source`, `notes`). Nothing here depends on a table's name.
"""
