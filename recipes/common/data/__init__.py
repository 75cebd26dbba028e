"""Turns files, or a data set of the Hub, into checked splits.

Read `splits` first: `load_splits` is what a recipe calls. It asks `sources` where the rows are.
`found_files` finds the files. `readers` reads them, with the help of `decoding`, `unpacking` and
one module per format. `column_kinds` says what may stand in a column. `checking` checks each row.
`label_column` finds out how labels are written, `label_decision` which classes they are.
`entity_labels` knows the schemes that mark entities, `writing_systems` the scripts without spaces.

Imports `runtime` and `config`.
"""
