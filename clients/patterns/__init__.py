"""What is said in each pattern that is a conversation (see `bench.conversation`): one file a pattern."""
