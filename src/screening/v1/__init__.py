"""What protoc makes of deploy/proto/screening/v1/screening.proto; `make proto` makes it anew."""
