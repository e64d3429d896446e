"""What people call things: keys, conversations, themselves, payments.

One rule for all of it: a name is one line that can be printed. Names are shown to others, in terminals too,
where control characters are commands; and a database may not take NUL (PostgreSQL's text does not).
"""

END = r"$(?!\n)"
"""The end of the text, in Python's dialect and in that of JSON Schema: Python's `$` alone stands before a
last line break, too."""
ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*" + END
"""Neither C0 nor C1 controls (ECMA-48 §5), nor Unicode's own line breaks."""
