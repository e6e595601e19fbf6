"""What is delivered of a snapshot: which columns a prompt's table has, which fields are left out or redacted, and how
rows stand in the files of each format. It knows no destinations.
"""
