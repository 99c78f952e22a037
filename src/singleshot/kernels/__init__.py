"""What tensor libraries have no operator for, in C, compiled for the processor it runs on.

Each ``.c`` file is one library and is explained at its top; each has a slower form in Python that gives the same result
and runs where there is no compiler.
"""
