"""The same few things, done by actors of several makes: each module holds one make.

A function of one name measures the same in each module that has it, and gives one figure:
microseconds of CPU time for one operation, or kB for one idle actor.
"""
