use strict;
use warnings;
use IO::Socket::INET;
use File::Temp qw(tempdir);
my $server = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1") or die "listen: $!";
my $child = fork // die "fork: $!";
if (!$child) {
    my $client = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $server->sockport) or die "connect: $!";
    print $client "line\n";
    exit 0;
}
my $line = $server->accept->getline;
waitpid $child, 0;
die "got $line" if $line ne "line\n" || $?;
die "no command" if `echo child` ne "child\n";
my $folder = tempdir(CLEANUP => 1);
open my $file, ">", "$folder/f" or die "open: $!";
print $file join "", map { "$_\n" } 1 .. 1000;
close $file;
