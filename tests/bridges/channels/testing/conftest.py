"""What is below `project` is a user's project, whose own tests run in processes of their own."""

collect_ignore = ["project"]
