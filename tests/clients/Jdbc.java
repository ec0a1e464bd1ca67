import java.sql.DriverManager;
import java.sql.SQLException;
import org.postgresql.util.PSQLException;

/** JDBC logs in and runs a statement. Usage: Jdbc.java URL STATEMENT */
class Jdbc {
    public static void main(String[] args) throws SQLException {
        try (var connection = DriverManager.getConnection(args[0]);
                var statement = connection.createStatement()) {
            statement.execute(args[1]);
        } catch (PSQLException error) {
            var why = error.getServerErrorMessage();
            // Null where it is not the server that said no, as when it can't be reached.
            if (why == null) throw error;
            show(why.getConstraint(), why.getSQLState(),
                    why.getMessage(), why.getDetail(), why.getHint());
        }
    }

    static void show(String constraint, String sqlstate, String message, String detail, String hint) {
        System.out.printf(
                "{\"constraint\":%s,\"sqlstate\":%s,\"message\":%s,\"detail\":%s,\"hint\":%s}%n",
                json(constraint), json(sqlstate), json(message), json(detail), json(hint));
    }

    static String json(String text) {
        return text == null ? "null" : '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }
}
