"""Turns files, or a data set of the Hub, into checked splits.

Read `splits` first: `load_splits` is what a recipe calls. It asks `sources` where the rows are.

Files: `found_files` and `saved_folders` find them. `readers` reads them, with the help of
`decoding`, `unpacking` and one module per format: `csv_rows`, `json_rows`, `excel_rows`,
`arrow_rows`, `conll_rows`, `word_tables`.

Rows: `columns` chooses the columns, `column_kinds` says what may stand in them. `checking` checks
each row, `arrow_buffer` keeps it. `validation_split` holds a part out (`character_split`: of one
long text), `limits` leaves rows out. `writing_systems` knows the scripts without spaces.

Labels: `labels` describes them. `label_cells` reads a cell, `seen_labels` counts what was read,
`label_column` finds out how a column writes its labels (`label_spelling`), `label_decision` which
classes they are. `entity_labels` knows the schemes that mark entities.

Imports `runtime` and `config`. `model` and all packages that follow it may import it.
"""
